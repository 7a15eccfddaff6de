// What a vector of 16 floats cannot say by itself, in AVX-512. Included by simd.h alone; simd_emulated.h is its twin.
#pragma once
#include <immintrin.h>

namespace dlcore::DLCORE_ISA {

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
// Past the caches, at a multiple of the vector's size; `end_past` makes them seen by who waits for this thread.
DLCORE_INLINE void store_past(float* p, VF v) { _mm512_stream_ps(p, (__m512)v); }
DLCORE_INLINE void end_past() { _mm_sfence(); }
DLCORE_INLINE VI load_pairs(const uint16_t* p) { return (VI)_mm512_loadu_si512(p); }
// c + a.low·b.low + a.high·b.high of pairs of bfloat16, as vdpbf16ps orders and rounds it; for functions marked
// DLCORE_BF16, which only processors with AVX512_BF16 may run.
#define DLCORE_BF16 __attribute__((target("avx512bf16")))
DLCORE_BF16 DLCORE_INLINE VF dot_pairs(VF c, VI a, VI b) {
  return (VF)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}
// Registers of 16 rows of 64 bytes, T from 0 to 7, and products of them (AMX), for functions marked DLCORE_TILES, which
// only processors with has_amx_bf16 may run. GCC's own macros take no template's argument for T.
#if (defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11)
#define DLCORE_TILES __attribute__((target("amx-tile,amx-bf16,avx512bf16")))
DLCORE_TILES inline void begin_tiles() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
}
DLCORE_TILES inline void end_tiles() { __asm__ volatile("tilerelease"); }
template <int T>
DLCORE_TILES DLCORE_INLINE void zero_tile() {
  __asm__ volatile("tilezero %%tmm%c0" : : "n"(T));
}
template <int T>
DLCORE_TILES DLCORE_INLINE void load_tile(const void* p, int64_t row_bytes) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "n"(T), "r"(p), "r"(row_bytes) : "memory");
}
template <int T>
DLCORE_TILES DLCORE_INLINE void store_tile(void* p, int64_t row_bytes) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "n"(T), "r"(p), "r"(row_bytes) : "memory");
}
// C += A·B of bfloat16: 16 rows of 16 pairs by 16 pairs of rows.
template <int C, int A, int B>
DLCORE_TILES DLCORE_INLINE void multiply_tiles() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "n"(C), "n"(A), "n"(B));
}
// To the nearest bfloat16, ties to even; denormals are zero.
DLCORE_TILES DLCORE_INLINE void store_rounded(uint16_t* p, VF v) {
  const __m256bh rounded = _mm512_cvtneps_pbh((__m512)v);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)rounded);
}
#endif
// Both halves of the 64-bit products of a's lanes by m, the same in each lane.
DLCORE_INLINE void multiply_wide(VU a, VU m, VU& low, VU& high) {
  const __m512i even = _mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)m);
  const __m512i odd = _mm512_maskz_mul_epu32(0xff, _mm512_maskz_srli_epi64(0xff, (__m512i)a, 32), (__m512i)m);
  low = (VU)_mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA);
  high = (VU)_mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
}
// The larger; b where a or b is NaN.
DLCORE_INLINE VF larger(VF a, VF b) { return (VF)_mm512_maskz_max_ps(kAllLanes, (__m512)a, (__m512)b); }
// As math.h has them for any type, in one instruction: NaN stays.
DLCORE_INLINE VF at_most(VF x, float limit) {
  return (VF)_mm512_maskz_min_ps(kAllLanes, _mm512_set1_ps(limit), (__m512)x);
}
DLCORE_INLINE VF at_least(VF x, float limit) {
  return (VF)_mm512_maskz_max_ps(kAllLanes, _mm512_set1_ps(limit), (__m512)x);
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

}  // namespace dlcore::DLCORE_ISA
