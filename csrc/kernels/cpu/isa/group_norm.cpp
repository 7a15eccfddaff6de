// Group normalisation: a group of an image lies together, so each task takes it through all its passes while it is
// in the cache. Sums in 16 lanes, forward of two groups at once, so that their chains overlap.
#include "kernels/cpu/group_norm.h"

#include "base/parallel.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/lanes.h"

namespace dlcore::DLCORE_ISA {

namespace {

// f(offset, lanes) over n elements, 16 at a time; the last ones fewer.
template <class F>
DLCORE_INLINE void each16(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, (int)(n - i));
}
DLCORE_INLINE Lanes some16(const float* p, int n) { return n == kLanes ? load16(p) : load16(p, n); }
DLCORE_INLINE void put16(float* p, const Lanes& v, int n) { n == kLanes ? store16(p, v) : store16(p, v, n); }
// v with zeros beyond the first n lanes.
DLCORE_INLINE Lanes only16(const Lanes& v, int n) { return n == kLanes ? v : first_of(n, v, zero_lanes()); }

template <int R>
void forward_groups(const GroupNormArgs& a, int64_t i) {
  const int64_t size = a.channels * a.rest;
  const float* x = a.x + i * size;
  float* y = a.y + i * size;
  Lanes sum[R], squares[R], m[R], s[R];
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) sum[r] = squares[r] = zero_lanes();
  each16(size, [&](int64_t k, int n) DLCORE_LAMBDA {
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) sum[r] = sum[r] + some16(x + r * size + k, n);
  });
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) m[r] = splat16(a.mean[i + r] = tree_sum(sum[r]) / (float)size);
  each16(size, [&](int64_t k, int n) DLCORE_LAMBDA {
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      const Lanes d = only16(some16(x + r * size + k, n) - m[r], n);
      squares[r] = fma(d, d, squares[r]);
    }
  });
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
    s[r] = splat16(a.rstd[i + r] = 1.0f / __builtin_sqrtf(tree_sum(squares[r]) / (float)size + a.eps));
    for (int64_t k = 0; k < a.channels; ++k, x += a.rest, y += a.rest) {
      const int64_t c = (i + r) % a.groups * a.channels + k;
      const Lanes gamma = splat16(a.gamma[c]), beta = splat16(a.beta[c]);
      each16(a.rest, [&](int64_t e, int n)
                         DLCORE_LAMBDA { put16(y + e, fma((some16(x + e, n) - m[r]) * s[r], gamma, beta), n); });
    }
  }
  if (a.epilogue) a.epilogue->range(*a.epilogue, i * size, R * size);
}

void forward(const GroupNormArgs& a) {
  const int64_t count = a.images * a.groups;
  parallel_for((count + 1) / 2, count * (a.channels * a.rest + 64) / 4, [&](int64_t pair) {
    if (2 * pair + 1 < count)
      forward_groups<2>(a, 2 * pair);
    else
      forward_groups<1>(a, 2 * pair);
  });
}

void backward(const GroupNormArgs& a) {
  const int64_t size = a.channels * a.rest, count = a.images * a.groups, all = a.groups * a.channels;
  parallel_for(count, count * (size + 64) / 2, [&](int64_t i) {
    const Lanes m = splat16(a.mean[i]), s = splat16(a.rstd[i]);
    float ga = 0, gb = 0;
    for (int64_t k = 0; k < a.channels; ++k) {
      const int64_t c = i % a.groups * a.channels + k;
      const float *x = a.x + i * size + k * a.rest, *dy = a.dy + i * size + k * a.rest;
      Lanes sum = zero_lanes(), product = zero_lanes();
      each16(a.rest, [&](int64_t e, int n) DLCORE_LAMBDA {
        const Lanes d = some16(dy + e, n);
        sum = sum + d;
        product = fma(d, only16((some16(x + e, n) - m) * s, n), product);
      });
      float* own = a.sums + 2 * (i * a.channels + k);
      own[0] = tree_sum(product);
      own[1] = tree_sum(sum);
      ga = __builtin_fmaf(a.gamma[c], own[1], ga);
      gb = __builtin_fmaf(a.gamma[c], own[0], gb);
    }
    const Lanes va = splat16(ga / (float)size), vb = splat16(gb / (float)size);
    for (int64_t k = 0; k < a.channels; ++k) {
      const int64_t at = i * size + k * a.rest;
      const Lanes gamma = splat16(a.gamma[i % a.groups * a.channels + k]);
      each16(a.rest, [&](int64_t e, int n) DLCORE_LAMBDA {
        const Lanes g = some16(a.dy + at + e, n) * gamma, h = (some16(a.x + at + e, n) - m) * s;
        put16(a.dx + at + e, s * ((g - va) - h * vb), n);
      });
    }
  });
  for (int64_t c = 0; c < all; ++c) {
    float gamma = 0, beta = 0;
    for (int64_t i = 0; i < a.images; ++i) {
      const float* own = a.sums + 2 * (i * all + c);
      gamma = i == 0 ? own[0] : gamma + own[0];
      beta = i == 0 ? own[1] : beta + own[1];
    }
    a.dgamma[c] = gamma;
    a.dbeta[c] = beta;
  }
}

}  // namespace

const GroupNormTable group_norm_table = {forward, backward};

}  // namespace dlcore::DLCORE_ISA
