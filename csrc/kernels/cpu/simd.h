// Vectors for the kernels: GCC/Clang vector types at the width of the instruction set being built, and the few things a
// vector type cannot say (fma, masked loads and stores, rounding), in a header for each instruction set: the only
// intrinsics in the project. Files that include this are compiled once for each instruction set, with DLCORE_ISA=avx2
// or avx512, and keep everything in that namespace: they use no std:: headers with inline functions, which the linker
// might share with code for lesser processors.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifndef DLCORE_ISA
#error "this file is compiled per instruction set: define DLCORE_ISA"
#endif

// 16 lanes: AVX-512, or its emulation by pairs of AVX2 vectors, for tests on processors without.
#if defined(__AVX512F__) || defined(DLCORE_EMULATE_AVX512)
#define DLCORE_WIDE
#endif

#define DLCORE_INLINE inline __attribute__((always_inline))
#define DLCORE_LAMBDA __attribute__((always_inline))

namespace dlcore::DLCORE_ISA {

#ifdef DLCORE_WIDE
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
DLCORE_INLINE VU as_unsigned(VI v) { return reinterpret_cast<VU>(v); }
DLCORE_INLINE VF as_float(VI v) { return reinterpret_cast<VF>(v); }
DLCORE_INLINE VF select(VI mask, VF a, VF b) { return mask ? a : b; }
DLCORE_INLINE VI select(VI mask, VI a, VI b) { return mask ? a : b; }
DLCORE_INLINE VF to_float(VI v) { return __builtin_convertvector(v, VF); }
DLCORE_INLINE VI to_int(VF v) { return __builtin_convertvector(v, VI); }  // toward zero; out of range is INT_MIN

}  // namespace dlcore::DLCORE_ISA

#ifdef DLCORE_EMULATE_AVX512
#include "kernels/cpu/simd_emulated.h"
#elif defined(DLCORE_WIDE)
#include "kernels/cpu/simd_avx512.h"
#else
#include "kernels/cpu/simd_avx2.h"
#endif

namespace dlcore::DLCORE_ISA {

#ifndef DLCORE_EMULATE_AVX512
// acc = fma(a, b, acc) in acc's own register: left to choose among the three forms of the instruction, GCC moves the
// sums of an unrolled loop about until it spills them.
DLCORE_INLINE void accumulate(VF& acc, VF a, VF b) { __asm__("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b)); }
// Keeps a vector just loaded in its register: it is not read again from memory with each use.
DLCORE_INLINE void hold(VF& v) { __asm__("" : "+v"(v)); }
// Chooses an address, not what stands at one: no branch.
DLCORE_INLINE void hold_address(const float*& p) { __asm__ volatile("" : "+r"(p)); }
#endif

// A table of eight, twice over (math.h), at the last three bits of each index.
DLCORE_INLINE VF lookup8(const float (&table)[16], VI i) { return permute(load(table), i); }

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
