// Reading and adding by index; each pair is adjoint.
#include "ops/define.h"

namespace dlcore {

namespace {

Types infer_take(Call& c) {
  c.want_index(1, "the indices");
  c.check(c.rank(0) >= 1, "x should have at least 1 dimension");
  Shape out = c.shape(1);
  out.insert(out.end(), c.shape(0).begin() + 1, c.shape(0).end());
  return {{c.dtype(0), std::move(out)}};
}

Ids grad_take(Builder& b, const Node& n, const Ids& dy) {
  return {b.op("scatter_add", {dy[0], n.inputs[1]}, {{"size", b.shape(n.inputs[0])[0]}}), kNone};
}

Types infer_scatter_add(Call& c) {
  c.want_number(0, "dy");
  c.want_index(1, "the indices");
  const Shape &dy = c.shape(0), &indices = c.shape(1);
  c.check(dy.size() >= indices.size() && std::equal(indices.begin(), indices.end(), dy.begin()), "dy ", to_string(dy),
          " should start with the shape of the indices, ", to_string(indices));
  Shape out = {c.integer("size", 0)};
  out.insert(out.end(), dy.begin() + static_cast<int64_t>(indices.size()), dy.end());
  return {{c.dtype(0), std::move(out)}};
}

Ids grad_scatter_add(Builder& b, const Node& n, const Ids& up) { return {b.op("take", {up[0], n.inputs[1]}), kNone}; }

// Input 0 and the indices have the same shape but for the axis, which is returned.
size_t check_along(Call& c, bool free_axis) {
  c.want_dtype(1, DType::I64, "the indices");
  const Shape &x = c.shape(0), &indices = c.shape(1);
  const auto axis = static_cast<size_t>(c.axis("axis", c.rank(0)));
  bool fits = x.size() == indices.size();
  for (size_t i = 0; fits && i < x.size(); ++i) fits = (free_axis && i == axis) || x[i] == indices[i];
  c.check(fits, "the indices ", to_string(indices), " should have the shape ", to_string(x),
          free_axis ? format(" but for axis ", axis) : "");
  return axis;
}

Types infer_take_along(Call& c) {
  check_along(c, true);
  return {{c.dtype(0), c.shape(1)}};
}

Ids grad_take_along(Builder& b, const Node& n, const Ids& dy) {
  const Shape x = b.shape(n.inputs[0]);
  const auto axis = normalize_axis(n.attrs.integer("axis"), static_cast<int>(x.size()), "take_along_axis");
  return {b.op("scatter_along_axis", {dy[0], n.inputs[1]},
               {{"axis", int64_t{axis}}, {"size", x[static_cast<size_t>(axis)]}}),
          kNone};
}

Types infer_scatter_along(Call& c) {
  c.want_number(0, "dy");
  const size_t axis = check_along(c, false);
  Shape out = c.shape(0);
  out[axis] = c.integer("size", 0);
  return {{c.dtype(0), std::move(out)}};
}

Ids grad_scatter_along(Builder& b, const Node& n, const Ids& up) {
  return {b.op("take_along_axis", {up[0], n.inputs[1]}, {{"axis", n.attrs.integer("axis")}}), kNone};
}

}  // namespace

void register_index_ops() {
  register_op(define<"take", infer_take, grad_take>(2));
  register_op(define<"scatter_add", infer_scatter_add, grad_scatter_add>(2));
  register_op(define<"take_along_axis", infer_take_along, grad_take_along>(2));
  register_op(define<"scatter_along_axis", infer_scatter_along, grad_scatter_along>(2));
}

}  // namespace dlcore
