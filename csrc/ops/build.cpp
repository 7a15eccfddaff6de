#include "ops/build.h"

#include <numeric>

#include "ops/op.h"

namespace dlcore {

bool Builder::is_float(ValueId v) const { return dtype(v) == DType::F32 || dtype(v) == DType::F64; }

Ids Builder::ops(std::string_view op, Ids inputs, Attrs attrs) {
  return emit(g, op, std::move(inputs), std::move(attrs), where_);
}

ValueId Builder::full(double value, Shape shape, DType dtype) {
  return op("full", {}, {{"value", value}, {"shape", std::move(shape)}, {"dtype", std::string(name_of(dtype))}});
}

ValueId Builder::constant(double value, DType dtype) { return full(value, {}, dtype); }

ValueId Builder::iota(int64_t size, DType dtype) {
  return op("iota", {}, {{"size", size}, {"dtype", std::string(name_of(dtype))}});
}

ValueId Builder::cast(ValueId v, DType dtype) {
  return this->dtype(v) == dtype ? v : op("cast", {v}, {{"dtype", std::string(name_of(dtype))}});
}

ValueId Builder::reshape(ValueId v, Shape shape) {
  return g.shape(v) == shape ? v : op("reshape", {v}, {{"shape", std::move(shape)}});
}

ValueId Builder::broadcast_to(ValueId v, Shape shape) {
  return g.shape(v) == shape ? v : op("broadcast_to", {v}, {{"shape", std::move(shape)}});
}

ValueId Builder::sum(ValueId v, IntList axes, bool keepdims) {
  if (axes.empty()) return v;
  return op("sum", {v}, {{"axes", std::move(axes)}, {"keepdims", static_cast<int64_t>(keepdims)}});
}

ValueId Builder::sum_to(ValueId v, const Shape& target) {
  const Shape shape = g.shape(v);
  if (shape == target) return v;
  if (g.dtype(v) == DType::BF16) return cast(sum_to(cast(v, DType::F32), target), DType::BF16);
  IntList axes;
  const size_t lead = shape.size() - target.size();
  for (size_t i = 0; i < shape.size(); ++i)
    if (i < lead || (target[i - lead] == 1 && shape[i] != 1)) axes.push_back(static_cast<int64_t>(i));
  // Images to channels (a convolution's bias): summed with the channels last, so that the layout pass finds the order
  // of the additions it can keep without moving the images back.
  if (shape.size() == 4 && axes == IntList{0, 2, 3})
    return reshape(sum(op("transpose", {v}, {{"perm", IntList{0, 2, 3, 1}}}), {0, 1, 2}, false), target);
  return reshape(sum(v, std::move(axes), false), target);
}

ValueId Builder::transpose_last(ValueId v) {
  IntList perm(static_cast<size_t>(rank(v)));
  std::iota(perm.begin(), perm.end(), int64_t{0});
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return op("transpose", {v}, {{"perm", std::move(perm)}});
}

ValueId Builder::matmul(ValueId a, ValueId b, bool transpose_a, bool transpose_b) {
  return op("matmul", {a, b},
            {{"transpose_a", static_cast<int64_t>(transpose_a)}, {"transpose_b", static_cast<int64_t>(transpose_b)}});
}

ValueId Builder::accumulate(ValueId a, ValueId b) { return a == kNone ? b : b == kNone ? a : add(a, b); }

}  // namespace dlcore
