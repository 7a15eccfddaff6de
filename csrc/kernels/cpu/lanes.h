// Arithmetic on the 16 virtual lanes of simd.h's Lanes: one vector with AVX-512, two with AVX2. For the row kernels,
// where lane l of a reduction, or row l of a block of 16, is lane l at either width.
#pragma once
#include "kernels/quick_exp.h"

namespace dlcore::DLCORE_ISA {

inline constexpr int kParts = kLanes / W;
typedef float V8 __attribute__((vector_size(32)));
typedef float V4 __attribute__((vector_size(16)));

#define DLCORE_EACH_PART _Pragma("GCC unroll 2") for (int part = 0; part < kParts; ++part)

DLCORE_INLINE Lanes splat16(float x) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = splat(x);
  return r;
}
DLCORE_INLINE Lanes load16(const float* p) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = load(p + part * W);
  return r;
}
DLCORE_INLINE void store16(float* p, const Lanes& a) { DLCORE_EACH_PART store(p + part * W, a.v[part]); }
// To a multiple of 64 bytes, if past the caches.
DLCORE_INLINE void write16(float* p, const Lanes& a, bool past) {
  DLCORE_EACH_PART past ? store_past(p + part * W, a.v[part]) : store(p + part * W, a.v[part]);
}
DLCORE_INLINE int part_count(int n, int part) {
  const int left = n - part * W;
  return left < 0 ? 0 : left > W ? W : left;
}
// The first n lanes (0 <= n <= 16); the others are 0, their memory is not touched.
DLCORE_INLINE Lanes load16(const float* p, int n) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = load_partial(p + part * W, part_count(n, part));
  return r;
}
DLCORE_INLINE void store16(float* p, const Lanes& a, int n) {
  DLCORE_EACH_PART store_partial(p + part * W, a.v[part], part_count(n, part));
}
DLCORE_INLINE Lanes operator+(const Lanes& a, const Lanes& b) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = a.v[part] + b.v[part];
  return r;
}
DLCORE_INLINE Lanes operator-(const Lanes& a, const Lanes& b) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = a.v[part] - b.v[part];
  return r;
}
DLCORE_INLINE Lanes operator*(const Lanes& a, const Lanes& b) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = a.v[part] * b.v[part];
  return r;
}
DLCORE_INLINE Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = fma(a.v[part], b.v[part], c.v[part]);
  return r;
}
DLCORE_INLINE Lanes exp(const Lanes& a) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = exp(a.v[part]);
  return r;
}
DLCORE_INLINE Lanes quick_exp(const Lanes& a) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = quick_exp(a.v[part]);
  return r;
}
// The larger; b where a is NaN.
DLCORE_INLINE Lanes larger(const Lanes& a, const Lanes& b) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = larger(a.v[part], b.v[part]);
  return r;
}

// Read from lane `from` on, 16 lanes of it are set from lane 16 - from on.
alignas(64) inline constexpr int32_t kSetLanes[2 * kLanes] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
DLCORE_INLINE VI set_lanes(int from, int part) { return load(kSetLanes + kLanes - from + part * W); }
// a in lanes [from, 16), 0 <= from <= 16, b in those below.
DLCORE_INLINE Lanes from_lane(int from, const Lanes& a, const Lanes& b) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = select(set_lanes(from, part), a.v[part], b.v[part]);
  return r;
}
// a in the first n lanes, b in the others.
DLCORE_INLINE Lanes first_of(int n, const Lanes& a, const Lanes& b) { return from_lane(n, b, a); }

DLCORE_INLINE V8 halves_sum(const Lanes& a) {
#ifdef DLCORE_WIDE
  return __builtin_shufflevector(a.v[0], a.v[0], 0, 1, 2, 3, 4, 5, 6, 7) +
         __builtin_shufflevector(a.v[0], a.v[0], 8, 9, 10, 11, 12, 13, 14, 15);
#else
  return a.v[0] + a.v[1];
#endif
}
// The same tree as sum_lanes, in registers.
DLCORE_INLINE float tree_sum(const Lanes& a) {
  const V8 x = halves_sum(a);
  const V4 y = __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
  return (y[0] + y[2]) + (y[1] + y[3]);
}
DLCORE_INLINE float max_lane(const Lanes& a) {
#ifdef DLCORE_WIDE
  const V8 lo = __builtin_shufflevector(a.v[0], a.v[0], 0, 1, 2, 3, 4, 5, 6, 7);
  const V8 hi = __builtin_shufflevector(a.v[0], a.v[0], 8, 9, 10, 11, 12, 13, 14, 15);
#else
  const V8 lo = a.v[0], hi = a.v[1];
#endif
  const V8 x = lo > hi ? lo : hi;
  const V4 l = __builtin_shufflevector(x, x, 0, 1, 2, 3), h = __builtin_shufflevector(x, x, 4, 5, 6, 7);
  const V4 y = l > h ? l : h;
  const float p = y[0] > y[2] ? y[0] : y[2], q = y[1] > y[3] ? y[1] : y[3];
  return p > q ? p : q;
}

template <int Step>
DLCORE_INLINE void transpose_step(VF* r) {
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (i & Step) continue;
    const VF a = r[i], b = r[i + Step];
#ifdef DLCORE_WIDE
#define DLCORE_LOW(l) (((l) & Step) ? 16 + (l) - Step : (l))
#define DLCORE_HIGH(l) (((l) & Step) ? 16 + (l) : (l) + Step)
#define DLCORE_16(f) \
  f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
    r[i] = __builtin_shufflevector(a, b, DLCORE_16(DLCORE_LOW));
    r[i + Step] = __builtin_shufflevector(a, b, DLCORE_16(DLCORE_HIGH));
#undef DLCORE_16
#else
#define DLCORE_LOW(l) (((l) & Step) ? 8 + (l) - Step : (l))
#define DLCORE_HIGH(l) (((l) & Step) ? 8 + (l) : (l) + Step)
#define DLCORE_8(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
    r[i] = __builtin_shufflevector(a, b, DLCORE_8(DLCORE_LOW));
    r[i + Step] = __builtin_shufflevector(a, b, DLCORE_8(DLCORE_HIGH));
#undef DLCORE_8
#endif
#undef DLCORE_LOW
#undef DLCORE_HIGH
  }
}
DLCORE_INLINE void transpose(VF (&r)[W]) {
  transpose_step<1>(r);
  transpose_step<2>(r);
  transpose_step<4>(r);
#ifdef DLCORE_WIDE
  transpose_step<8>(r);
#endif
}

// to[c][0 … 16) = from[0 … rows)[c] for c < columns: 16 rows side by side, absent ones as 0. `to` has 16 floats a
// column.
static inline void pack16(const float* from, int64_t stride, int rows, int64_t columns, float* to) {
  for (int64_t c = 0; c < columns; c += W) {
    const int n = columns - c < W ? (int)(columns - c) : W;
    for (int part = 0; part < kParts; ++part) {
      VF t[W];
      const int have = part_count(rows, part);
      const float* p = from + part * W * stride + c;
      float* out = to + c * kLanes + part * W;
      if (have == W && n == W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) t[i] = load(p + i * stride);
        transpose(t);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(out + i * kLanes, t[i]);
        continue;
      }
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) t[i] = i < have ? load_partial(p + i * stride, n) : VF{};
      transpose(t);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i)
        if (i < n) store(out + i * kLanes, t[i]);
    }
  }
}
// The other way: to[0 … rows)[c] = from[c][…].
static inline void unpack16(const float* from, int64_t columns, float* to, int64_t stride, int rows) {
  for (int64_t c = 0; c < columns; c += W) {
    const int n = columns - c < W ? (int)(columns - c) : W;
    for (int part = 0; part < kParts; ++part) {
      VF t[W];
      const int have = part_count(rows, part);
      const float* p = from + c * kLanes + part * W;
      float* out = to + part * W * stride + c;
      if (have == W && n == W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) t[i] = load(p + i * kLanes);
        transpose(t);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(out + i * stride, t[i]);
        continue;
      }
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) t[i] = i < n ? load(p + i * kLanes) : VF{};
      transpose(t);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i)
        if (i < have) store_partial(out + i * stride, t[i], n);
    }
  }
}

}  // namespace dlcore::DLCORE_ISA
