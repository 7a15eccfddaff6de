// The functions of math.h at width one, for the reference kernels: float gives the same bits as the vectors, double is
// <cmath>'s.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#define DLCORE_INLINE inline __attribute__((always_inline))
#define DLCORE_MATH_NAMESPACE dlcore::scalar

namespace dlcore::scalar {

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float sqrt(float x) { return std::sqrt(x); }
inline float floor(float x) { return std::floor(x); }
inline float ceil(float x) { return std::ceil(x); }
inline float round_even(float x) { return std::nearbyint(x); }
inline float select(bool mask, float a, float b) { return mask ? a : b; }
inline int32_t select(bool mask, int32_t a, int32_t b) { return mask ? a : b; }
inline bool any(bool mask) { return mask; }
inline int32_t as_int(float x) { return std::bit_cast<int32_t>(x); }
inline uint32_t as_unsigned(int32_t x) { return static_cast<uint32_t>(x); }
inline float as_float(int32_t x) { return std::bit_cast<float>(x); }
inline float lookup8(const float (&table)[16], int32_t i) { return table[i & 7]; }
inline float to_float(int32_t x) { return static_cast<float>(x); }
// As the processor's conversion: INT_MIN where the value does not fit.
inline int32_t to_int(float x) { return x >= -0x1p31f && x < 0x1p31f ? static_cast<int32_t>(x) : INT32_MIN; }

}  // namespace dlcore::scalar

#include "kernels/gelu.h"

namespace dlcore {

#define DLCORE_SCALAR(name, in_double)                            \
  inline float scalar_##name(float x) { return scalar::name(x); } \
  inline double scalar_##name(double x) { return in_double; }
DLCORE_SCALAR(exp, std::exp(x))
DLCORE_SCALAR(quick_exp, std::exp(x))
DLCORE_SCALAR(expm1, std::expm1(x))
DLCORE_SCALAR(log, std::log(x))
DLCORE_SCALAR(log1p, std::log1p(x))
DLCORE_SCALAR(sin, std::sin(x))
DLCORE_SCALAR(cos, std::cos(x))
DLCORE_SCALAR(tanh, std::tanh(x))
DLCORE_SCALAR(erf, std::erf(x))
DLCORE_SCALAR(rsqrt, 1.0 / std::sqrt(x))
DLCORE_SCALAR(sigmoid, 1.0 / (1.0 + std::exp(-x)))
DLCORE_SCALAR(silu, std::isinf(x) && x < 0 ? -0.0 : x / (1.0 + std::exp(-x)))
DLCORE_SCALAR(gelu, std::isinf(x) ? (x < 0 ? -0.0 : x) : 0.5 * x * std::erfc(-x * 0.70710678118654752440))
DLCORE_SCALAR(gelu_slope, std::isinf(x) ? (x < 0 ? 0.0 : 1.0)
                                        : 0.5 * std::erfc(-x * 0.70710678118654752440) +
                                              x * std::exp(-0.5 * x * x) * 0.39894228040143267794)
DLCORE_SCALAR(softplus, (x > 0 ? x : 0.0) + std::log1p(std::exp(-std::fabs(x))))
#undef DLCORE_SCALAR

inline float scalar_gelu_tanh(float x) { return scalar::gelu_tanh(x); }
inline double scalar_gelu_tanh(double x) {
  if (std::isinf(x)) return x < 0 ? -0.0 : x;
  return x /
         (1.0 + std::exp(-1.59576912160573071176 * (x + 0.044715 * x * x * x)));  // x/2·(1 + tanh u) = x·sigmoid(2u)
}
inline float scalar_pow(float x, float y) { return scalar::pow(x, y); }
inline double scalar_pow(double x, double y) { return std::pow(x, y); }

}  // namespace dlcore
