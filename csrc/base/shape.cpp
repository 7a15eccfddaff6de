#include "base/shape.h"

#include <algorithm>

#include "base/error.h"

namespace dlcore {

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  bool zero = false;
  for (int64_t d : shape) {
    DLCORE_CHECK(d >= 0, Value, "negative size in shape ", to_string(shape));
    if (d == 0)
      zero = true;
    else
      DLCORE_CHECK(!__builtin_mul_overflow(n, d, &n), Value, "shape ", to_string(shape), " has too many elements");
  }
  return zero ? 0 : n;
}

std::string to_string(const Shape& shape) {
  std::string s = "(";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

Shape broadcast(const Shape& a, const Shape& b, const char* op) {
  const size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (size_t i = 0; i < rank; ++i) {
    const int64_t x = i < rank - a.size() ? 1 : a[i - (rank - a.size())];
    const int64_t y = i < rank - b.size() ? 1 : b[i - (rank - b.size())];
    DLCORE_CHECK(x == y || x == 1 || y == 1, Value, "[", op, "] shapes do not broadcast: ", to_string(a), " and ",
                 to_string(b));
    out[i] = x == 1 ? y : x;
  }
  return out;
}

int normalize_axis(int64_t axis, int rank, const char* op) {
  DLCORE_CHECK(axis >= -rank && axis < rank, Value, "[", op, "] axis ", axis, " is out of range for ", rank,
               " dimensions");
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

std::vector<int64_t> row_major_strides(const Shape& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

std::string to_string(const TensorType& type) {
  std::string s = std::string(name_of(type.dtype)) + "[";
  for (size_t i = 0; i < type.shape.size(); ++i) s += (i ? "," : "") + std::to_string(type.shape[i]);
  return s + "]";
}

int64_t byte_size(const TensorType& type) {
  int64_t bytes;
  DLCORE_CHECK(!__builtin_mul_overflow(numel(type.shape), static_cast<int64_t>(size_of(type.dtype)), &bytes), Value,
               "a value of type ", to_string(type), " is too large");
  return bytes;
}

}  // namespace dlcore
