// Conversions between element types, one element at a time: what `cast`, `full` and `iota` mean (docs/ops.md).
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/dtype.h"
#include "base/error.h"

namespace dlcore {

// Storage of the 16-bit floats.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// x rounded to nearest even at `digits` digits after the leading one, with exponents from `least` on (denormals below).
inline double round_to(double x, int digits, int least) {
  if (!std::isfinite(x) || x == 0) return x;
  const int unit = std::max(std::ilogb(x), least) - digits;
  return std::ldexp(std::nearbyint(std::ldexp(x, -unit)), unit);
}

inline BFloat16 to_bfloat16(double x) {
  if (std::isnan(x)) return {static_cast<uint16_t>(std::signbit(x) ? 0xffc0 : 0x7fc0)};
  const auto y = static_cast<float>(round_to(x, 7, -126));  // beyond f32: infinity, as beyond bf16
  return {static_cast<uint16_t>(std::bit_cast<uint32_t>(y) >> 16)};
}
inline double from(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

inline Float16 to_float16(double x) {
  const auto sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
  if (std::isnan(x)) return {static_cast<uint16_t>(sign | 0x7e00)};
  const double a = std::fabs(round_to(x, 10, -14));
  if (a >= 65536) return {static_cast<uint16_t>(sign | 0x7c00)};
  if (a < 0x1p-14) return {static_cast<uint16_t>(sign | static_cast<int>(a * 0x1p24))};
  const int exponent = std::ilogb(a);
  const int fraction = static_cast<int>(std::ldexp(a, 10 - exponent)) - 1024;
  return {static_cast<uint16_t>(sign | (exponent + 15) << 10 | fraction)};
}
inline double from(Float16 x) {
  const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  double a = exponent == 0 ? fraction * 0x1p-24
             : exponent == 31
                 ? (fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity())
                 : std::ldexp(1024 + fraction, exponent - 25);
  return x.bits & 0x8000 ? -a : a;
}

template <class T>
constexpr bool kIsHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

template <class To, class From>
To convert(From x) {
  if constexpr (kIsHalf<From>) {
    if constexpr (std::is_same_v<To, From>)
      return x;
    else
      return convert<To>(from(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return to_bfloat16(static_cast<double>(x));
  } else if constexpr (std::is_same_v<To, Float16>) {
    return to_float16(static_cast<double>(x));
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    using Limits = std::numeric_limits<To>;
    const From low = static_cast<From>(Limits::min());
    const From high = static_cast<From>(std::ldexp(1.0, Limits::digits));
    return x != x ? To(0) : x >= high ? Limits::max() : x < low ? Limits::min() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

// f(T()) for the storage type of a dtype.
template <class F>
decltype(auto) for_dtype(DType dtype, F f) {
  switch (dtype) {
    case DType::F32:
      return f(float());
    case DType::F64:
      return f(double());
    case DType::BF16:
      return f(BFloat16());
    case DType::F16:
      return f(Float16());
    case DType::I8:
      return f(int8_t());
    case DType::U8:
      return f(uint8_t());
    case DType::I32:
      return f(int32_t());
    case DType::I64:
      return f(int64_t());
    case DType::Bool:
      return f(bool());
  }
  fail(ErrorKind::Type, "unknown dtype ", static_cast<int>(dtype));
}

}  // namespace dlcore
