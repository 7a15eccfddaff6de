// Shapes (row-major, at most kMaxRank axes) and the type of a value: dtype and shape.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace dlcore {

inline constexpr int kMaxRank = 8;
using Shape = std::vector<int64_t>;

int64_t numel(const Shape& shape);          // throws Error(Value) on a negative size or when the product overflows
std::string to_string(const Shape& shape);  // "(32, 784)", "(3,)", "()"
Shape broadcast(const Shape& a, const Shape& b, const char* op);  // NumPy's rule; throws Error(Value) naming op
int normalize_axis(int64_t axis, int rank, const char* op);       // -1 → rank - 1; throws Error(Value)
std::vector<int64_t> row_major_strides(const Shape& shape);       // in elements

struct TensorType {
  DType dtype = DType::F32;
  Shape shape;
  bool operator==(const TensorType&) const = default;
};

std::string to_string(const TensorType& type);  // "f32[32,784]"
int64_t byte_size(const TensorType& type);      // throws on overflow

}  // namespace dlcore
