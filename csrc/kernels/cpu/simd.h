// Vectors for the kernels: GCC/Clang vector types at the width of the instruction set being built, and the few things a
// vector type cannot say (fma, masked loads and stores, rounding), the only intrinsics in the project. Files that
// include this are compiled once for each instruction set, with DLCORE_ISA=avx2 or avx512, and keep everything in that
// namespace: they use no std:: headers with inline functions, which the linker might share with code for lesser
// processors.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#ifndef DLCORE_ISA
#error "this file is compiled per instruction set: define DLCORE_ISA"
#endif

#define DLCORE_INLINE inline __attribute__((always_inline))
#define DLCORE_LAMBDA __attribute__((always_inline))

namespace dlcore::DLCORE_ISA {

#ifdef __AVX512F__
inline constexpr int W = 16;
#else
inline constexpr int W = 8;
#endif

typedef float VF __attribute__((vector_size(4 * W)));
typedef int32_t VI __attribute__((vector_size(4 * W)));  // also the type of VF's comparisons: 0 or -1 a lane
typedef uint32_t VU __attribute__((vector_size(4 * W)));
typedef uint64_t VUL __attribute__((vector_size(4 * W)));  // W / 2 lanes
typedef float VFu __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t VIu __attribute__((vector_size(4 * W), aligned(4), may_alias));

inline constexpr int WD = W / 2;
typedef double VD __attribute__((vector_size(8 * WD)));
typedef double VDu __attribute__((vector_size(8 * WD), aligned(8), may_alias));

DLCORE_INLINE VD load(const double* p) { return *reinterpret_cast<const VDu*>(p); }
DLCORE_INLINE void store(double* p, VD v) { *reinterpret_cast<VDu*>(p) = v; }
DLCORE_INLINE VD splat(double x) { return x - VD{}; }
DLCORE_INLINE VF load(const float* p) { return *reinterpret_cast<const VFu*>(p); }
DLCORE_INLINE void store(float* p, VF v) { *reinterpret_cast<VFu*>(p) = v; }
DLCORE_INLINE VI load(const int32_t* p) { return *reinterpret_cast<const VIu*>(p); }
DLCORE_INLINE void store(int32_t* p, VI v) { *reinterpret_cast<VIu*>(p) = v; }
DLCORE_INLINE VF splat(float x) { return x - VF{}; }  // x - 0 keeps every x, -0 and NaN included
DLCORE_INLINE VI splat(int32_t x) { return x - VI{}; }
DLCORE_INLINE VI as_int(VF v) { return reinterpret_cast<VI>(v); }
DLCORE_INLINE VF as_float(VI v) { return reinterpret_cast<VF>(v); }
DLCORE_INLINE VF select(VI mask, VF a, VF b) { return mask ? a : b; }
DLCORE_INLINE VI select(VI mask, VI a, VI b) { return mask ? a : b; }
DLCORE_INLINE VF to_float(VI v) { return __builtin_convertvector(v, VF); }
DLCORE_INLINE VI to_int(VF v) { return __builtin_convertvector(v, VI); }  // toward zero; out of range is INT_MIN

#ifdef __AVX512F__
// 64-bit products of the even lanes by m.
DLCORE_INLINE VUL multiply_even(VU v, uint32_t m) {
  return (VUL)_mm512_maskz_mul_epu32(0xff, (__m512i)v, _mm512_set1_epi64(static_cast<long long>(m)));
}
inline constexpr __mmask16 kAllLanes = 0xffff;  // masked forms: gcc 12 warns of its own header in the others
DLCORE_INLINE bool any(VI mask) { return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0; }
DLCORE_INLINE VF fma(VF a, VF b, VF c) { return (VF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
DLCORE_INLINE VD fma(VD a, VD b, VD c) { return (VD)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
DLCORE_INLINE VD load_partial(const double* p, int n) {
  return (VD)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
DLCORE_INLINE void store_partial(double* p, VD v, int n) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
// W bytes as integers: GCC 12 converts byte by byte.
DLCORE_INLINE VI widen_bytes(const uint8_t* p) {
  return (VI)_mm512_maskz_cvtepu8_epi32(kAllLanes, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
DLCORE_INLINE VI widen_shorts(const uint16_t* p) {
  return (VI)_mm512_maskz_cvtepu16_epi32(kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
DLCORE_INLINE VI widen_shorts_partial(const uint16_t* p, int n) {
  return (VI)_mm512_maskz_cvtepu16_epi32(kAllLanes, _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
DLCORE_INLINE void store_shorts(uint16_t* p, VI v) {  // of each lane, whose upper half must be 0, the lower
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtepi32_epi16(kAllLanes, (__m512i)v));
}
DLCORE_INLINE VI load_pairs(const uint16_t* p) { return (VI)_mm512_loadu_si512(p); }
// c + a.low·b.low + a.high·b.high of pairs of bfloat16, as vdpbf16ps orders and rounds it; for functions marked
// DLCORE_BF16, which only processors with AVX512_BF16 may run.
#define DLCORE_BF16 __attribute__((target("avx512bf16")))
DLCORE_BF16 DLCORE_INLINE VF dot_pairs(VF c, VI a, VI b) {
  return (VF)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}
// The upper half of the 64-bit product of two lanes.
DLCORE_INLINE VU multiply_high(VU a, VU b) {
  const __m512i even = _mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
  const __m512i odd = _mm512_maskz_mul_epu32(0xff, _mm512_maskz_srli_epi64(0xff, (__m512i)a, 32),
                                             _mm512_maskz_srli_epi64(0xff, (__m512i)b, 32));
  return (VU)_mm512_mask_blend_epi32(0xaaaa, _mm512_maskz_srli_epi64(0xff, even, 32), odd);
}
DLCORE_INLINE VF sqrt(VF v) { return (VF)_mm512_maskz_sqrt_ps(kAllLanes, (__m512)v); }
DLCORE_INLINE VF round_even(VF v) {
  return (VF)_mm512_maskz_roundscale_ps(kAllLanes, (__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
DLCORE_INLINE VF floor(VF v) {
  return (VF)_mm512_maskz_roundscale_ps(kAllLanes, (__m512)v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
DLCORE_INLINE VF ceil(VF v) {
  return (VF)_mm512_maskz_roundscale_ps(kAllLanes, (__m512)v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
// The first n (0 <= n <= W) elements; the others are 0 and their memory is not touched.
DLCORE_INLINE VF load_partial(const float* p, int n) {
  return (VF)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
// The lanes whose mask is set (-1); likewise.
DLCORE_INLINE VF load_masked(const float* p, VI mask) {
  return (VF)_mm512_maskz_loadu_ps(_mm512_movepi32_mask((__m512i)mask), p);
}
DLCORE_INLINE void store_partial(float* p, VF v, int n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
// With an explicit source: the plain intrinsic warns of an uninitialised value under GCC 12.
DLCORE_INLINE VF gather(const float* base, VI index) {
  return (VF)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, (__m512i)index, base, 4);
}
// Lane i of the result is lane index[i] of v, modulo W.
DLCORE_INLINE VF permute(VF v, VI index) {
  return (VF)_mm512_maskz_permutexvar_ps(kAllLanes, (__m512i)index, (__m512)v);
}
#else
DLCORE_INLINE bool any(VI mask) { return _mm256_movemask_epi8((__m256i)mask) != 0; }
DLCORE_INLINE VF fma(VF a, VF b, VF c) { return (VF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
DLCORE_INLINE VUL multiply_even(VU v, uint32_t m) {
  return (VUL)_mm256_mul_epu32((__m256i)v, _mm256_set1_epi64x(static_cast<long long>(m)));
}
DLCORE_INLINE VI widen_bytes(const uint8_t* p) {
  return (VI)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
DLCORE_INLINE VI widen_shorts(const uint16_t* p) {
  return (VI)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
DLCORE_INLINE void store_shorts(uint16_t* p, VI v) {  // of each lane, whose upper half must be 0, the lower
  const __m256i packed = _mm256_packus_epi32((__m256i)v, (__m256i)v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}
DLCORE_INLINE VU multiply_high(VU a, VU b) {
  const __m256i even = _mm256_mul_epu32((__m256i)a, (__m256i)b);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), _mm256_srli_epi64((__m256i)b, 32));
  return (VU)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}
DLCORE_INLINE VF sqrt(VF v) { return (VF)_mm256_sqrt_ps((__m256)v); }
DLCORE_INLINE VF round_even(VF v) {
  return (VF)_mm256_round_ps((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
DLCORE_INLINE VF floor(VF v) { return (VF)_mm256_round_ps((__m256)v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
DLCORE_INLINE VF ceil(VF v) { return (VF)_mm256_round_ps((__m256)v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
DLCORE_INLINE __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
DLCORE_INLINE VF load_partial(const float* p, int n) { return (VF)_mm256_maskload_ps(p, first_lanes(n)); }
DLCORE_INLINE VF load_masked(const float* p, VI mask) { return (VF)_mm256_maskload_ps(p, (__m256i)mask); }
DLCORE_INLINE void store_partial(float* p, VF v, int n) { _mm256_maskstore_ps(p, first_lanes(n), (__m256)v); }
DLCORE_INLINE VD fma(VD a, VD b, VD c) { return (VD)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
DLCORE_INLINE __m256i first_doubles(int n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
DLCORE_INLINE VD load_partial(const double* p, int n) { return (VD)_mm256_maskload_pd(p, first_doubles(n)); }
DLCORE_INLINE void store_partial(double* p, VD v, int n) { _mm256_maskstore_pd(p, first_doubles(n), (__m256d)v); }
DLCORE_INLINE VF load_halves(const float* low, const float* high) {
  return (VF)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}
DLCORE_INLINE VF gather(const float* base, VI index) { return (VF)_mm256_i32gather_ps(base, (__m256i)index, 4); }
DLCORE_INLINE VF permute(VF v, VI index) { return (VF)_mm256_permutevar8x32_ps((__m256)v, (__m256i)index); }
#endif

// acc = fma(a, b, acc) in acc's own register: left to choose among the three forms of the instruction, GCC moves the
// sums of an unrolled loop about until it spills them.
DLCORE_INLINE void accumulate(VF& acc, VF a, VF b) { __asm__("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b)); }

// The 16 virtual lanes of a reduction along contiguous memory (docs/ops.md, lanes16), whatever the hardware's width.
inline constexpr int kLanes = 16;
struct Lanes {
  VF v[kLanes / W];
};
DLCORE_INLINE Lanes zero_lanes() { return Lanes{}; }
// The fixed tree: l + 8, l + 4, l + 2, l + 1.
DLCORE_INLINE float sum_lanes(const Lanes& a) {
  float t[kLanes];
  for (int i = 0; i < kLanes / W; ++i) store(t + i * W, a.v[i]);
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int l = 0; l < step; ++l) t[l] += t[l + step];
  return t[0];
}

}  // namespace dlcore::DLCORE_ISA
