// The optimizers' updates: one pass over the parameters and their moments, which may be written in place.
#include "kernels/cpu/optim.h"

#include "base/parallel.h"
#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int64_t kChunk = 16384;

// Loads and stores at one place, of a whole vector or of the last lanes.
struct At {
  int64_t i;
  int n;
  DLCORE_INLINE VF get(const float* p) const { return n == W ? load(p + i) : load_partial(p + i, n); }
  DLCORE_INLINE void put(float* p, VF v) const { n == W ? store(p + i, v) : store_partial(p + i, v, n); }
};

template <class F>
void each_vector(int64_t n, int64_t cycles, F f) {
  auto body = [&](int64_t chunk) {
    int64_t i = chunk * kChunk;
    const int64_t end = i + kChunk < n ? i + kChunk : n;
    for (; i + W <= end; i += W) f(At{i, W});
    if (i < end) f(At{i, static_cast<int>(end - i)});
  };
  parallel_for((n + kChunk - 1) / kChunk, n * cycles, body);
}

void sgd_plain(const OptimArgs& a) {
  const VF rate = splat(-a.lr), wd = splat(a.weight_decay);
  each_vector(
      a.n, 1, [&](At at) __attribute__((always_inline)) {
        const VF p = at.get(a.p);
        at.put(a.p_out, fma(rate, fma(wd, p, at.get(a.g)), p));
      });
}

template <bool first, bool nesterov>
void sgd_with(const OptimArgs& a) {
  const VF rate = splat(-a.lr), wd = splat(a.weight_decay), momentum = splat(a.momentum), rest = splat(a.rest);
  each_vector(
      a.n, 1, [&](At at) __attribute__((always_inline)) {
        const VF p = at.get(a.p), g = fma(wd, p, at.get(a.g));
        const VF m = first ? g : fma(momentum, at.get(a.m), rest * g);
        at.put(a.m_out, m);
        at.put(a.p_out, fma(rate, nesterov ? fma(momentum, m, g) : m, p));
      });
}

void sgd(const OptimArgs& a) {
  if (a.nesterov)
    a.first ? sgd_with<true, true>(a) : sgd_with<false, true>(a);
  else
    a.first ? sgd_with<true, false>(a) : sgd_with<false, false>(a);
}

template <bool decoupled>
void adam_with(const OptimArgs& a) {
  const VF rate = splat(-a.lr), decay = splat(a.weight_decay), beta1 = splat(a.beta1), rest1 = splat(a.rest1);
  const VF beta2 = splat(a.beta2), rest2 = splat(a.rest2), eps = splat(a.eps), scale = splat(a.second_scale);
  each_vector(
      a.n, 2, [&](At at) __attribute__((always_inline)) {
        const VF before = at.get(a.p), given = at.get(a.g);
        const VF g = decoupled ? given : fma(decay, before, given), p = decoupled ? before * decay : before;
        const VF m = fma(beta1, at.get(a.m), rest1 * g), v = fma(beta2, at.get(a.v), rest2 * g * g);
        at.put(a.m_out, m);
        at.put(a.v_out, v);
        at.put(a.p_out, fma(rate, m / (sqrt(v) * scale + eps), p));
      });
}

void adam(const OptimArgs& a) { a.decoupled ? adam_with<true>(a) : adam_with<false>(a); }

}  // namespace

const OptimTable optim_table = {sgd_plain, sgd, adam};

}  // namespace dlcore::DLCORE_ISA
