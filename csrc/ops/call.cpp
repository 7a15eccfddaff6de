#include "ops/call.h"

#include <algorithm>
#include <cmath>

#include "ops/define.h"

namespace dlcore {

const TensorType& Call::in(size_t i) const {
  check(i < inputs_.size(), "takes more than ", inputs_.size(), " inputs");
  return inputs_[i];
}

void Call::want_real(size_t i, const char* name) const {
  const DType d = dtype(i);
  if (d != DType::F32 && d != DType::F64)
    fail(ErrorKind::Type, "[", op_, "] ", name, " should be f32 or f64, got ", to_string(in(i)));
}

void Call::want_number(size_t i, const char* name) const {
  const DType d = dtype(i);
  if (d != DType::F32 && d != DType::F64 && !is_integer(d))
    fail(ErrorKind::Type, "[", op_, "] ", name, " should be f32, f64 or an integer, got ", to_string(in(i)));
}

void Call::want_dtype(size_t i, DType dtype, const char* name) const {
  if (this->dtype(i) != dtype)
    fail(ErrorKind::Type, "[", op_, "] ", name, " should be ", name_of(dtype), ", got ", to_string(in(i)));
}

void Call::want_index(size_t i, const char* name) const {
  if (dtype(i) != DType::I32 && dtype(i) != DType::I64)
    fail(ErrorKind::Type, "[", op_, "] ", name, " should be i32 or i64, got ", to_string(in(i)));
}

void Call::want_same_dtype(size_t i, size_t j) const {
  if (dtype(i) != dtype(j))
    fail(ErrorKind::Type, "[", op_, "] dtypes differ: ", name_of(dtype(i)), " and ", name_of(dtype(j)));
}

void Call::want_rank(size_t i, int rank, const char* name) const {
  check(this->rank(i) == rank, name, " should have ", rank, " dimensions, got ", to_string(shape(i)));
}

void Call::want_shape(size_t i, const Shape& shape, const char* name) const {
  check(this->shape(i) == shape, name, " should have shape ", to_string(shape), ", got ", to_string(this->shape(i)));
}

Shape Call::broadcast_all() const {
  Shape shape = in(0).shape;
  const std::string op(op_);
  for (size_t i = 1; i < count(); ++i) shape = broadcast(shape, in(i).shape, op.c_str());
  return shape;
}

int64_t Call::integer(std::string_view name, int64_t low, int64_t high) {
  known_.emplace(name);
  const int64_t v = attrs_.integer(name);
  check(v >= low, name, " should be at least ", low, ", got ", v);
  check(v <= high, name, " should be at most ", high, ", got ", v);
  return v;
}

double Call::real(std::string_view name) {
  known_.emplace(name);
  return attrs_.real(name);
}

double Call::finite(std::string_view name, double low, double high) {
  const double v = real(name);
  check(std::isfinite(v), name, " should be finite, got ", v);
  check(v >= low, name, " should be at least ", low, ", got ", v);
  check(v <= high, name, " should be at most ", high, ", got ", v);
  return v;
}

bool Call::flag(std::string_view name) {
  known_.emplace(name);
  if (!attrs_.has(name)) return false;
  const int64_t v = attrs_.integer(name);
  check(v == 0 || v == 1, name, " should be 0 or 1, got ", v);
  return v == 1;
}

std::string Call::choice(std::string_view name, std::span<const std::string_view> known) {
  known_.emplace(name);
  const std::string value = attrs_.text_or(name, std::string(known[0]));
  std::string names;
  for (std::string_view k : known) {
    if (k == value) return value;
    names += (names.empty() ? "" : ", ") + std::string(k);
  }
  fail(ErrorKind::Value, "[", op_, "] ", name, " should be one of ", names, ", got '", value, "'");
}

const std::string& Call::text(std::string_view name) {
  known_.emplace(name);
  return attrs_.text(name);
}

DType Call::dtype_attr(std::string_view name) { return parse_dtype(text(name)); }

Shape Call::shape_attr(std::string_view name) {
  known_.emplace(name);
  const Shape& shape = attrs_.ints(name);
  for (int64_t d : shape) check(d >= 0, name, " holds a negative size: ", to_string(shape));
  return shape;
}

IntList Call::ints(std::string_view name, size_t count, int64_t low) {
  known_.emplace(name);
  const IntList& list = attrs_.ints(name);
  check(list.size() == count, name, " should have ", count, count == 1 ? " entry, got " : " entries, got ",
        to_string(list));
  for (int64_t v : list) check(v >= low, name, " should hold no value below ", low, ", got ", to_string(list));
  return list;
}

int Call::axis(std::string_view name, int rank) {
  const std::string op(op_);
  return normalize_axis(integer(name), rank, op.c_str());
}

std::vector<int> Call::axes(std::string_view name, int rank) {
  known_.emplace(name);
  const std::string op(op_);
  std::vector<int> axes;
  for (int64_t a : attrs_.ints(name)) axes.push_back(normalize_axis(a, rank, op.c_str()));
  std::sort(axes.begin(), axes.end());
  check(std::adjacent_find(axes.begin(), axes.end()) == axes.end(), name,
        " names an axis twice: ", to_string(attrs_.ints(name)));
  return axes;
}

bool Call::channels_last(int spatial) {
  const std::string& layout = text("layout");
  const std::string_view first = spatial == 3 ? "ncdhw" : "nchw", last = spatial == 3 ? "ndhwc" : "nhwc";
  check(layout == first || layout == last, "layout should be \"", first, "\" or \"", last, "\", got \"", layout, "\"");
  return layout == last;
}

void Call::finish(const std::vector<TensorType>& outputs) const {
  for (const auto& [name, value] : attrs_) check(known_.contains(name), "unknown attribute '", name, "'");
  for (const TensorType& type : outputs) {
    check(type.shape.size() <= kMaxRank, "a result of ", type.shape.size(), " dimensions; at most ", kMaxRank,
          " are supported");
    byte_size(type);  // throws when it overflows
  }
}

Types run_infer(std::string_view op, InferRule rule, std::span<const TensorType> inputs, const Attrs& attrs) {
  try {
    Call call(op, inputs, attrs);
    Types outputs = rule(call);
    call.finish(outputs);
    return outputs;
  } catch (const Error& e) {  // from below the ops, where the op's name is not known
    if (e.what()[0] == '[') throw;
    fail(e.kind(), "[", op, "] ", e.what());
  }
}

}  // namespace dlcore
