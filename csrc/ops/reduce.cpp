// Reductions over axes, cumulative sums and sorting.
#include "ops/define.h"

namespace dlcore {

namespace {

Shape reduced(const Shape& shape, const std::vector<int>& axes, bool keepdims) {
  Shape out;
  size_t next = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool gone = next < axes.size() && axes[next] == static_cast<int>(i);
    if (gone) ++next;
    if (!gone)
      out.push_back(shape[i]);
    else if (keepdims)
      out.push_back(1);
  }
  return out;
}

// A node's own axes, normalised and ascending, and the shape of its output with them kept as 1.
std::vector<int> axes_of(Builder& b, const Node& n) {
  std::vector<int> axes;
  for (int64_t a : n.attrs.ints("axes")) axes.push_back(normalize_axis(a, b.rank(n.inputs[0]), "reduce"));
  std::sort(axes.begin(), axes.end());
  return axes;
}

Shape kept_shape(Builder& b, const Node& n) { return reduced(b.shape(n.inputs[0]), axes_of(b, n), true); }

Types infer_sum(Call& c) {
  const DType d = c.dtype(0);
  if (d != DType::F32 && d != DType::F64 && d != DType::I32 && d != DType::I64)
    fail(ErrorKind::Type, "[sum] the input should be f32, f64, i32 or i64 (cast it first), got ", to_string(c.in(0)));
  const std::vector<int> axes = c.axes("axes", c.rank(0));
  return {{d, reduced(c.shape(0), axes, c.flag("keepdims"))}};
}

Ids grad_sum(Builder& b, const Node& n, const Ids& dy) {
  return {b.broadcast_to(b.reshape(dy[0], kept_shape(b, n)), b.shape(n.inputs[0]))};
}

Types infer_extreme(Call& c) {
  if (c.dtype(0) != DType::Bool) c.want_number(0, "the input");
  const std::vector<int> axes = c.axes("axes", c.rank(0));
  Shape out = reduced(c.shape(0), axes, c.flag("keepdims"));
  for (int axis : axes)
    c.check(c.size(0, axis) > 0 || numel(out) == 0, "axis ", axis, " of ", to_string(c.shape(0)),
            " is empty: there is no such element");
  return {{c.dtype(0), std::move(out)}};
}

// Shared evenly among the elements that equal the extreme.
Ids grad_extreme(Builder& b, const Node& n, const Ids& dy) {
  const ValueId x = n.inputs[0];
  const Shape kept = kept_shape(b, n);
  IntList axes;
  for (int axis : axes_of(b, n)) axes.push_back(axis);
  const ValueId hit = b.op("eq", {x, b.reshape(n.outputs[0], kept)});
  const ValueId count = b.sum(b.cast(hit, b.dtype(x)), axes, true);
  const ValueId share = b.div(b.reshape(dy[0], kept), count);
  return {b.where(hit, share, b.constant_like(0, x))};
}

Types infer_arg(Call& c) {
  if (c.dtype(0) != DType::Bool) c.want_number(0, "the input");
  const int axis = c.axis("axis", c.rank(0));
  Shape out = reduced(c.shape(0), {axis}, c.flag("keepdims"));
  c.check(c.size(0, axis) > 0 || numel(out) == 0, "axis ", axis, " of ", to_string(c.shape(0)),
          " is empty: there is no such element");
  return {{DType::I64, std::move(out)}};
}

Types infer_cumsum(Call& c) {
  const DType d = c.dtype(0);
  if (d != DType::F32 && d != DType::F64 && d != DType::I32 && d != DType::I64)
    fail(ErrorKind::Type, "[cumsum] the input should be f32, f64, i32 or i64 (cast it first), got ",
         to_string(c.in(0)));
  c.axis("axis", c.rank(0));
  c.flag("reverse");
  return {c.in(0)};
}

Ids grad_cumsum(Builder& b, const Node& n, const Ids& dy) {
  const int64_t reverse = n.attrs.integer_or("reverse", 0);
  return {b.op("cumsum", {dy[0]}, {{"axis", n.attrs.integer("axis")}, {"reverse", 1 - reverse}})};
}

Types infer_sort(Call& c) {
  if (c.dtype(0) != DType::Bool) c.want_number(0, "the input");
  c.axis("axis", c.rank(0));
  c.flag("descending");
  return {c.in(0), {DType::I64, c.shape(0)}};
}

Ids grad_sort(Builder& b, const Node& n, const Ids& dy) {
  if (dy[0] == kNone) return {kNone};
  const Shape shape = b.shape(n.inputs[0]);
  const int64_t axis = normalize_axis(n.attrs.integer("axis"), static_cast<int>(shape.size()), "sort");
  return {
      b.op("scatter_along_axis", {dy[0], n.outputs[1]}, {{"axis", axis}, {"size", shape[static_cast<size_t>(axis)]}})};
}

}  // namespace

void register_reduce_ops() {
  register_op(define<"sum", infer_sum, grad_sum>(1));
  register_op(define<"max", infer_extreme, grad_extreme>(1));
  register_op(define<"min", infer_extreme, grad_extreme>(1));
  register_op(define<"argmax", infer_arg>(1, kZeroGrad));
  register_op(define<"argmin", infer_arg>(1, kZeroGrad));
  register_op(define<"cumsum", infer_cumsum, grad_cumsum>(1));
  register_op(define<"sort", infer_sort, grad_sort>(1));
}

}  // namespace dlcore
