// What simd_avx512.h says, in AVX2: pairs of vectors where it matters for speed, loops over the lanes elsewhere. For
// tests alone (DLCORE_EMULATE_AVX512): the kernels for AVX-512 run, with the values they have there, on processors
// without it. Included by simd.h alone.
#pragma once
#include <immintrin.h>

namespace dlcore::DLCORE_ISA {

struct Floats {
  __m256 low, high;
};
struct Doubles {
  __m256d low, high;
};
DLCORE_INLINE Floats halves(VF v) { return __builtin_bit_cast(Floats, v); }
DLCORE_INLINE Doubles halves(VD v) { return __builtin_bit_cast(Doubles, v); }
DLCORE_INLINE VF whole(Floats v) { return __builtin_bit_cast(VF, v); }
DLCORE_INLINE VD whole(Doubles v) { return __builtin_bit_cast(VD, v); }

DLCORE_INLINE VF fma(VF a, VF b, VF c) {
  const Floats x = halves(a), y = halves(b), z = halves(c);
  return whole(Floats{_mm256_fmadd_ps(x.low, y.low, z.low), _mm256_fmadd_ps(x.high, y.high, z.high)});
}
DLCORE_INLINE VD fma(VD a, VD b, VD c) {
  const Doubles x = halves(a), y = halves(b), z = halves(c);
  return whole(Doubles{_mm256_fmadd_pd(x.low, y.low, z.low), _mm256_fmadd_pd(x.high, y.high, z.high)});
}
DLCORE_INLINE void accumulate(VF& acc, VF a, VF b) { acc = fma(a, b, acc); }
DLCORE_INLINE void hold(VF&) {}
DLCORE_INLINE void hold_address(const float*&) {}

DLCORE_INLINE VF sqrt(VF v) {
  const Floats x = halves(v);
  return whole(Floats{_mm256_sqrt_ps(x.low), _mm256_sqrt_ps(x.high)});
}
template <int Mode>
DLCORE_INLINE VF rounded_to(VF v) {
  const Floats x = halves(v);
  return whole(
      Floats{_mm256_round_ps(x.low, Mode | _MM_FROUND_NO_EXC), _mm256_round_ps(x.high, Mode | _MM_FROUND_NO_EXC)});
}
DLCORE_INLINE VF round_even(VF v) { return rounded_to<_MM_FROUND_TO_NEAREST_INT>(v); }
DLCORE_INLINE VF floor(VF v) { return rounded_to<_MM_FROUND_TO_NEG_INF>(v); }
DLCORE_INLINE VF ceil(VF v) { return rounded_to<_MM_FROUND_TO_POS_INF>(v); }

DLCORE_INLINE bool any(VI mask) {
  int32_t bits = 0;
  for (int l = 0; l < W; ++l) bits |= mask[l];
  return bits != 0;
}
DLCORE_INLINE VUL multiply_even(VU v, uint32_t m) { return (reinterpret_cast<VUL>(v) & 0xffffffffu) * m; }
DLCORE_INLINE void multiply_wide(VU a, VU m, VU& low, VU& high) {
  for (int l = 0; l < W; ++l) high[l] = static_cast<uint32_t>(static_cast<uint64_t>(a[l]) * m[l] >> 32);
  low = a * m;
}
// Lane i of the result is lane index[i] of v, modulo W.
DLCORE_INLINE VF permute(VF v, VI index) {
  VF r = {};
  for (int l = 0; l < W; ++l) r[l] = v[index[l] & (W - 1)];
  return r;
}

DLCORE_INLINE VF larger(VF a, VF b) { return select(a > b, a, b); }

// W of them as integers.
template <class T>
DLCORE_INLINE VI widen(const T* p, int n) {
  VI r = {};
  for (int l = 0; l < n; ++l) r[l] = p[l];
  return r;
}
DLCORE_INLINE VI widen_bytes(const uint8_t* p) { return widen(p, W); }
DLCORE_INLINE VI widen_shorts(const uint16_t* p) { return widen(p, W); }
DLCORE_INLINE VI widen_shorts_partial(const uint16_t* p, int n) { return widen(p, n); }
DLCORE_INLINE void store_shorts(uint16_t* p, VI v) {
  for (int l = 0; l < W; ++l) p[l] = static_cast<uint16_t>(v[l]);
}
DLCORE_INLINE void store_past(float* p, VF v) { *reinterpret_cast<VF*>(p) = v; }
DLCORE_INLINE void end_past() {}
DLCORE_INLINE VI load_pairs(const uint16_t* p) {
  VI r = {};
  __builtin_memcpy(&r, p, sizeof r);
  return r;
}
// The products of bfloat16 are exact in float32: the higher ones are added first.
#define DLCORE_BF16
DLCORE_INLINE VF dot_pairs(VF c, VI a, VI b) {
  const VI upper = splat(static_cast<int32_t>(0xffff0000));
  return fma(as_float(a << 16), as_float(b << 16), fma(as_float(a & upper), as_float(b & upper), c));
}

// The first n (0 <= n <= W) elements; the others are 0 and their memory is not touched.
DLCORE_INLINE VF load_partial(const float* p, int n) {
  VF r = {};
  for (int l = 0; l < n; ++l) r[l] = p[l];
  return r;
}
DLCORE_INLINE VD load_partial(const double* p, int n) {
  VD r = {};
  for (int l = 0; l < n; ++l) r[l] = p[l];
  return r;
}
DLCORE_INLINE void store_partial(float* p, VF v, int n) {
  for (int l = 0; l < n; ++l) p[l] = v[l];
}
DLCORE_INLINE void store_partial(double* p, VD v, int n) {
  for (int l = 0; l < n; ++l) p[l] = v[l];
}
// The lanes whose mask is set (-1); likewise.
DLCORE_INLINE VF load_masked(const float* p, VI mask) {
  VF r = {};
  for (int l = 0; l < W; ++l)
    if (mask[l]) r[l] = p[l];
  return r;
}
DLCORE_INLINE VF gather(const float* base, VI index) {
  VF r = {};
  for (int l = 0; l < W; ++l) r[l] = base[index[l]];
  return r;
}

}  // namespace dlcore::DLCORE_ISA
