// Softmax over the last axis and the loss built on it.
#include "ops/define.h"

namespace dlcore {

namespace {

Types infer_rows(Call& c) {
  c.want_real(0, "the input");
  c.check(c.rank(0) >= 1, "the input should have at least 1 dimension");
  return {c.in(0)};
}

Types infer_rows_backward(Call& c) {
  c.want_real(0, "the output");
  c.want_same_dtype(0, 1);
  c.check(c.rank(0) >= 1, "the output should have at least 1 dimension");
  c.want_shape(1, c.shape(0), "its gradient");
  return {c.in(0)};
}

Ids grad_softmax(Builder& b, const Node& n, const Ids& dy) { return {b.op("softmax_backward", {n.outputs[0], dy[0]})}; }

Ids grad_log_softmax(Builder& b, const Node& n, const Ids& dy) {
  return {b.op("log_softmax_backward", {n.outputs[0], dy[0]})};
}

Ids decompose_softmax_backward(Builder& b, const Node& n) {
  const ValueId y = n.inputs[0], dy = n.inputs[1];
  return {b.mul(y, b.sub(dy, b.sum_last(b.mul(dy, y))))};
}

Ids decompose_log_softmax_backward(Builder& b, const Node& n) {
  const ValueId y = n.inputs[0], dy = n.inputs[1];
  return {b.sub(dy, b.mul(b.exp(y), b.sum_last(dy)))};
}

void check_loss(Call& c) {
  c.want_real(0, "logits");
  c.want_rank(0, 2, "logits");
  c.want_dtype(1, DType::I64, "labels");
  c.want_shape(1, {c.size(0, 0)}, "labels");
  c.check(c.size(0, 1) >= 1, "logits ", to_string(c.shape(0)), " should have at least one class");
  c.finite("label_smoothing", 0, 1);
  c.integer("ignore_index", -(int64_t{1} << 53), int64_t{1} << 53);  // exact as the value of a `full`
}

Types infer_cross_entropy(Call& c) {
  check_loss(c);
  const TensorType row{c.dtype(0), {c.size(0, 0)}};
  return {row, row};
}

Types infer_cross_entropy_backward(Call& c) {
  check_loss(c);
  for (size_t i : {size_t{2}, size_t{3}}) {
    c.want_same_dtype(0, i);
    c.want_shape(i, {c.size(0, 0)}, i == 2 ? "lse" : "dloss");
  }
  return {c.in(0)};
}

ValueId column(Builder& b, ValueId v) { return b.reshape(v, {b.shape(v)[0], 1}); }

// exp(x - lse), the softmax.
ValueId probabilities(Builder& b, ValueId logits, ValueId lse) { return b.exp(b.sub(logits, column(b, lse))); }

Ids grad_cross_entropy(Builder& b, const Node& n, const Ids& dy) {
  const ValueId logits = n.inputs[0], labels = n.inputs[1], lse = n.outputs[1];
  ValueId dx = kNone;
  if (dy[0] != kNone) dx = b.op("cross_entropy_backward", {logits, labels, lse, dy[0]}, n.attrs);
  if (dy[1] != kNone) dx = b.accumulate(dx, b.mul(probabilities(b, logits, lse), column(b, dy[1])));
  return {dx, kNone};
}

// Differentiable in logits, lse (taken as an input of its own) and dloss.
Ids decompose_cross_entropy_backward(Builder& b, const Node& n) {
  const ValueId logits = n.inputs[0], labels = n.inputs[1], lse = n.inputs[2], dloss = n.inputs[3];
  const DType dtype = b.dtype(logits);
  const int64_t classes = b.shape(logits)[1];
  const double smoothing = n.attrs.real("label_smoothing");
  const auto ignore = static_cast<double>(n.attrs.integer("ignore_index"));
  const ValueId ignored = b.op("eq", {labels, b.constant(ignore, DType::I64)});
  const ValueId hit = b.op("eq", {column(b, labels), b.iota(classes, DType::I64)});
  const ValueId target = b.add(b.mul(b.cast(hit, dtype), 1 - smoothing), smoothing / static_cast<double>(classes));
  const ValueId weight = b.where(ignored, b.constant(0, dtype), dloss);
  return {b.mul(b.sub(probabilities(b, logits, lse), target), column(b, weight))};
}

}  // namespace

void register_softmax_ops() {
  register_op(define<"softmax", infer_rows, grad_softmax>(1));
  register_op(define<"log_softmax", infer_rows, grad_log_softmax>(1));
  register_op(define_composite<"softmax_backward", infer_rows_backward, decompose_softmax_backward>(2));
  register_op(define_composite<"log_softmax_backward", infer_rows_backward, decompose_log_softmax_backward>(2));
  register_op(define<"cross_entropy", infer_cross_entropy, grad_cross_entropy>(2));
  register_op(
      define_composite<"cross_entropy_backward", infer_cross_entropy_backward, decompose_cross_entropy_backward>(4));
}

}  // namespace dlcore
