// Element types and their names in the graph's text form.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dlcore {

enum class DType : uint8_t { F32, F64, BF16, F16, I8, U8, I32, I64, Bool };
inline constexpr int kDTypeCount = 9;

size_t size_of(DType dtype);
std::string_view name_of(DType dtype);     // "f32", "f64", "bf16", "f16", "i8", "u8", "i32", "i64", "bool"
DType parse_dtype(std::string_view name);  // throws Error(Type) for an unknown name

inline bool is_float(DType d) { return d <= DType::F16; }
inline bool is_integer(DType d) { return d >= DType::I8 && d <= DType::I64; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::F32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::F64;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::I8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::U8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::I32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::I64;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::Bool;
};

}  // namespace dlcore
