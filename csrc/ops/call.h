// One call's input types and attributes as an infer rule reads them: every reader checks, and complains as "[op] …".
// An attribute that no rule asked for is refused at the end (finish), so the readers are also the list of known names.
#pragma once
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/attrs.h"
#include "base/error.h"
#include "base/shape.h"

namespace dlcore {

class Call {
 public:
  static constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

  Call(std::string_view op, std::span<const TensorType> inputs, const Attrs& attrs)
      : op_(op), inputs_(inputs), attrs_(attrs) {}

  size_t count() const { return inputs_.size(); }
  const TensorType& in(size_t i) const;
  const Shape& shape(size_t i) const { return in(i).shape; }
  DType dtype(size_t i) const { return in(i).dtype; }
  int rank(size_t i) const { return static_cast<int>(in(i).shape.size()); }
  int64_t size(size_t i, int axis) const { return in(i).shape[static_cast<size_t>(axis)]; }

  template <class... Args>
  void check(bool ok, const Args&... message) const {
    if (!ok) [[unlikely]]
      fail(ErrorKind::Value, "[", op_, "] ", message...);
  }

  // Inputs.
  void want_real(size_t i, const char* name) const;    // f32 or f64
  void want_number(size_t i, const char* name) const;  // f32, f64 or an integer
  void want_dtype(size_t i, DType dtype, const char* name) const;
  void want_index(size_t i, const char* name) const;  // i32 or i64
  void want_same_dtype(size_t i, size_t j) const;
  void want_rank(size_t i, int rank, const char* name) const;
  void want_shape(size_t i, const Shape& shape, const char* name) const;
  Shape broadcast_all() const;  // of every input's shape

  // Attributes.
  int64_t integer(std::string_view name, int64_t low = std::numeric_limits<int64_t>::min(), int64_t high = kMax);
  double real(std::string_view name);  // any value, also inf and nan
  double finite(std::string_view name, double low = -std::numeric_limits<double>::infinity(),
                double high = std::numeric_limits<double>::infinity());
  bool flag(std::string_view name);  // 0 or 1; absent: 0
  const std::string& text(std::string_view name);
  std::string choice(std::string_view name, std::span<const std::string_view> known);  // absent: the first
  std::string choice(std::string_view name, std::initializer_list<std::string_view> known) {
    return choice(name, std::span(known.begin(), known.size()));
  }
  DType dtype_attr(std::string_view name);
  Shape shape_attr(std::string_view name);  // sizes >= 0
  IntList ints(std::string_view name, size_t count, int64_t low = std::numeric_limits<int64_t>::min());
  int axis(std::string_view name, int rank);               // normalised
  std::vector<int> axes(std::string_view name, int rank);  // normalised, ascending, distinct
  bool channels_last(int spatial = 2);                     // attribute "layout" of images with so many axes

  void finish(const std::vector<TensorType>& outputs) const;

 private:
  std::string_view op_;
  std::span<const TensorType> inputs_;
  const Attrs& attrs_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace dlcore
