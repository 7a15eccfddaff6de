// Vectors along an image row for pooling: lane i is output column i, whose input lies `stride` elements further.
#pragma once
#include "kernels/cpu/rows.h"

namespace dlcore::DLCORE_ISA {

typedef float FloatU __attribute__((aligned(1), may_alias));
typedef int32_t IntU __attribute__((aligned(1), may_alias));

#ifdef DLCORE_WIDE
#define DLCORE_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define DLCORE_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define DLCORE_EVEN_ODD 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#define DLCORE_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define DLCORE_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#else
#define DLCORE_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define DLCORE_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define DLCORE_EVEN_ODD 0, 2, 4, 6, 9, 11, 13, 15
#define DLCORE_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define DLCORE_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#endif

DLCORE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
DLCORE_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
DLCORE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

DLCORE_INLINE VI iota() {
  VI v{};
  for (int l = 0; l < W; ++l) v[l] = l;
  return v;
}
DLCORE_INLINE VF load_n(const float* p, int n) { return n == W ? load(p) : load_partial(p, n); }
DLCORE_INLINE void store_n(float* p, VF v, int n) {
  if (n == W)
    store(p, v);
  else
    store_partial(p, v, n);
}
DLCORE_INLINE VI load_n(const int32_t* p, int n) { return as_int(load_n(reinterpret_cast<const float*>(p), n)); }
DLCORE_INLINE void store_n(int32_t* p, VI v, int n) { store_n(reinterpret_cast<float*>(p), as_float(v), n); }

// The four inputs of each of n outputs whose windows tile the image two by two: rows are read once and split into even
// and odd columns.
struct Square {
  VF top_left, top_right, bottom_left, bottom_right;
};
DLCORE_INLINE Square squares(const float* top, const float* bottom, int n) {
  const int low = 2 * n < W ? 2 * n : W, high = 2 * n - low;
  const VF a = load_n(top, low), b = load_n(top + W, high), c = load_n(bottom, low), d = load_n(bottom + W, high);
  return {__builtin_shufflevector(a, b, DLCORE_EVEN), __builtin_shufflevector(a, b, DLCORE_ODD),
          __builtin_shufflevector(c, d, DLCORE_EVEN), __builtin_shufflevector(c, d, DLCORE_ODD)};
}

// p[0], p[stride], … for n lanes (Stride: 1, 2 or 0 for any); touches no element between that is not asked for's end.
template <int Stride>
DLCORE_INLINE VF load_columns(const float* p, int stride, int n) {
  if constexpr (Stride == 1) return load_n(p, n);
  if constexpr (Stride == 2) {
    if (n == W) return __builtin_shufflevector(load(p), load(p + W - 1), DLCORE_EVEN_ODD);
    const int need = 2 * n - 1;
    const VF a = load_partial(p, need < W ? need : W);
    const VF b = need >= W ? load_partial(p + W - 1, need - W + 1) : VF{};
    return __builtin_shufflevector(a, b, DLCORE_EVEN_ODD);
  }
  const VI lane = iota(), last = splat(static_cast<int32_t>(n - 1));
  return gather(p, select(lane < last, lane, last) * static_cast<int32_t>(stride));
}

// The columns of one vector of outputs at the image's edge: input column of lane i at tap 0.
struct Edge {
  VI column;
  int32_t width;
  // Loads tap offset `shift`, whose first lane is at column `first`; only what lies inside the row is touched, and
  // `valid` tells which lanes did.
  template <int Stride>
  DLCORE_INLINE VF load(const float* row, int32_t first, int32_t shift, VI& valid) const {
    const VI at = column + shift;
    valid = (at >= 0) & (at < width);
    if constexpr (Stride == 1) return load_masked(row + first, valid);
    if constexpr (Stride == 2) {
      const VI a = iota() + first, b = a + (W - 1);
      return __builtin_shufflevector(load_masked(row + first, (a >= 0) & (a < width)),
                                     load_masked(row + first + (W - 1), (b >= 0) & (b < width)), DLCORE_EVEN_ODD);
    }
    return gather(row, select(valid, at, VI{}));
  }
};

}  // namespace dlcore::DLCORE_ISA
