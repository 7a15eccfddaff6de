#include "kernels/cpu/optim.h"

#include "base/parallel.h"
#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {
namespace {

struct Arithmetic {
  typedef VF V;
  static DLCORE_INLINE VF fma(VF a, VF b, VF c) { return DLCORE_ISA::fma(a, b, c); }
  static DLCORE_INLINE VF sqrt(VF x) { return DLCORE_ISA::sqrt(x); }
  static DLCORE_INLINE VF number(float x) { return splat(x); }
};

constexpr int64_t kChunk = 8192;

// Calls body(i, lanes) for each vector of elements, chunks in parallel; `cost`: cycles an element, roughly.
template <class F>
void for_each_vector(int64_t n, int64_t cost, F body) {
  parallel_for((n + kChunk - 1) / kChunk, n * cost, [&](int64_t chunk) {
    const int64_t end = (chunk + 1) * kChunk < n ? (chunk + 1) * kChunk : n;
    int64_t i = chunk * kChunk;
    for (; i + W <= end; i += W) body(i, W);
    if (i < end) body(i, static_cast<int>(end - i));
  });
}
DLCORE_INLINE VF get(const float* p, int lanes) { return lanes == W ? load(p) : load_partial(p, lanes); }
DLCORE_INLINE void put(float* p, VF v, int lanes) {
  if (lanes == W)
    store(p, v);
  else
    store_partial(p, v, lanes);
}

void sgd_plain(const OptimArgs& args, const optim::Sgd<float>& options) {
  const OptimArgs a = args;
  const auto o = options;
  for_each_vector(
      a.n, 1, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        VF p = get(a.p + i, lanes);
        optim::sgd_plain<Arithmetic>(o, p, get(a.g + i, lanes));
        put(a.p_out + i, p, lanes);
      });
}

void sgd(const OptimArgs& args, const optim::Sgd<float>& options) {
  const OptimArgs a = args;
  const auto o = options;
  for_each_vector(
      a.n, 1, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        VF p = get(a.p + i, lanes), m = get(a.m + i, lanes);
        optim::sgd<Arithmetic>(o, p, get(a.g + i, lanes), m);
        put(a.p_out + i, p, lanes);
        put(a.m_out + i, m, lanes);
      });
}

void adam(const OptimArgs& args, const optim::Adam<float>& options) {
  const OptimArgs a = args;
  const auto o = options;
  for_each_vector(
      a.n, 2, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        VF p = get(a.p + i, lanes), m = get(a.m + i, lanes), v = get(a.v + i, lanes);
        optim::adam<Arithmetic>(o, p, get(a.g + i, lanes), m, v);
        put(a.p_out + i, p, lanes);
        put(a.m_out + i, m, lanes);
        put(a.v_out + i, v, lanes);
      });
}

}  // namespace

const OptimTable optim_table = {sgd_plain, sgd, adam};

}  // namespace dlcore::DLCORE_ISA
