// Connectionist temporal classification: the loss of a sequence of labels over all its alignments with the steps.
#include "ops/define.h"

namespace dlcore {

namespace {

// log_probs [T, N, C], labels [N, S], how many steps and labels each row has [N]; the first is input `first`.
void check_rows(Call& c, size_t first) {
  c.want_real(first, "log_probs");
  c.want_rank(first, 3, "log_probs");
  const int64_t rows = c.size(first, 1), classes = c.size(first, 2);
  c.want_dtype(first + 1, DType::I64, "labels");
  c.want_rank(first + 1, 2, "labels");
  c.want_shape(first + 1, {rows, c.size(first + 1, 1)}, "labels");
  for (size_t i : {first + 2, first + 3}) {
    c.want_dtype(i, DType::I64, "lengths");
    c.want_shape(i, {rows}, "lengths");
  }
  c.check(classes >= 1, "needs at least one class");
  c.integer("blank", 0, classes - 1);
}

Types infer_ctc(Call& c) {
  check_rows(c, 0);
  return {{c.dtype(0), {c.size(0, 1)}}};
}

Types infer_ctc_backward(Call& c) {
  check_rows(c, 1);
  c.want_same_dtype(0, 1);
  c.want_shape(0, {c.size(1, 1)}, "dloss");
  return {c.in(1)};
}

Ids grad_ctc(Builder& b, const Node& n, const Ids& dy) {
  return {b.op("ctc_backward", {dy[0], n.inputs[0], n.inputs[1], n.inputs[2], n.inputs[3]}, n.attrs), kNone, kNone,
          kNone};
}
Ids grad_ctc_backward(Builder&, const Node& n, const Ids&) {
  fail(ErrorKind::Value, "[", n.op, "] second derivative of ctc is not available");
}

}  // namespace

void register_ctc_ops() {
  register_op(define<"ctc", infer_ctc, grad_ctc>(4));
  register_op(define<"ctc_backward", infer_ctc_backward, grad_ctc_backward>(5));
}

}  // namespace dlcore
