// What a vector of 8 floats cannot say by itself, in AVX2 and FMA. Included by simd.h alone.
#pragma once
#include <immintrin.h>

namespace dlcore::DLCORE_ISA {

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
// Both halves of the 64-bit products of a's lanes by m, the same in each lane.
DLCORE_INLINE void multiply_wide(VU a, VU m, VU& low, VU& high) {
  const __m256i even = _mm256_mul_epu32((__m256i)a, (__m256i)m);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), (__m256i)m);
  low = (VU)_mm256_blend_epi32(even, _mm256_shuffle_epi32(odd, 0xa0), 0xaa);
  high = (VU)_mm256_blend_epi32(_mm256_shuffle_epi32(even, 0xf5), odd, 0xaa);
}
// Past the caches, at a multiple of the vector's size; `end_past` makes them seen by who waits for this thread.
DLCORE_INLINE void store_past(float* p, VF v) { _mm256_stream_ps(p, (__m256)v); }
DLCORE_INLINE void end_past() { _mm_sfence(); }
// The larger; b where a or b is NaN.
DLCORE_INLINE VF larger(VF a, VF b) { return (VF)_mm256_max_ps((__m256)a, (__m256)b); }
// As math.h has them for any type, in one instruction: NaN stays.
DLCORE_INLINE VF at_most(VF x, float limit) { return (VF)_mm256_min_ps(_mm256_set1_ps(limit), (__m256)x); }
DLCORE_INLINE VF at_least(VF x, float limit) { return (VF)_mm256_max_ps(_mm256_set1_ps(limit), (__m256)x); }
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

}  // namespace dlcore::DLCORE_ISA
