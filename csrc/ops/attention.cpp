// Scaled dot-product attention: softmax(scale·q·kᵀ)·v, a head at a time.
#include <limits>

#include "ops/define.h"

namespace dlcore {

namespace {

void check_qkv(Call& c, size_t q, size_t k, size_t v) {
  c.want_real(q, "q");
  c.want_same_dtype(q, k);
  c.want_same_dtype(q, v);
  c.want_rank(q, 4, "q (batch, heads, queries, width)");
  c.want_rank(k, 4, "k (batch, heads, keys, width)");
  const bool causal = c.flag("causal");
  c.finite("scale");
  const Shape &qs = c.shape(q), &ks = c.shape(k);
  c.check(qs[0] == ks[0] && qs[1] == ks[1] && qs[3] == ks[3], "q ", to_string(qs), " and k ", to_string(ks),
          " should agree in batch, heads and width");
  c.want_shape(v, ks, "v");
  c.check(ks[2] >= 1, "k ", to_string(ks), " holds no key");
  c.check(!causal || qs[2] <= ks[2], "causal attention of ", qs[2], " queries wants as many keys, got ", ks[2]);
}

Types infer_attention(Call& c) {
  check_qkv(c, 0, 1, 2);
  const Shape& q = c.shape(0);
  return {c.in(0), {c.dtype(0), {q[0], q[1], q[2]}}};
}

Types infer_attention_backward(Call& c) {
  check_qkv(c, 1, 2, 3);
  const Shape& q = c.shape(1);
  for (size_t i : {size_t{0}, size_t{4}, size_t{5}}) c.want_same_dtype(1, i);
  c.want_shape(0, q, "dout");
  c.want_shape(4, q, "out");
  c.want_shape(5, {q[0], q[1], q[2]}, "lse");
  return {c.in(1), c.in(2), c.in(3)};
}

ValueId column(Builder& b, ValueId rows) {
  Shape shape = b.shape(rows);
  shape.push_back(1);
  return b.reshape(rows, std::move(shape));
}

// exp(scale·q·kᵀ - lse). Unseen scores become -inf before exp, so that neither it nor its derivatives overflow there.
ValueId probabilities(Builder& b, const Node& n, ValueId q, ValueId k, ValueId lse) {
  ValueId s = b.sub(b.mul(b.matmul(q, k, false, true), n.attrs.real("scale")), column(b, lse));
  if (n.attrs.integer_or("causal", 0)) {
    const int64_t queries = b.shape(q)[2], keys = b.shape(k)[2];
    const ValueId row = b.add(b.iota(queries, DType::I64), static_cast<double>(keys - queries));
    const ValueId seen = b.op("ge", {column(b, row), b.iota(keys, DType::I64)});
    s = b.where(seen, s, b.constant_like(-std::numeric_limits<double>::infinity(), s));
  }
  return b.exp(s);
}

// lse's own gradient adds p·dlse to the scores'.
Ids grad_attention(Builder& b, const Node& n, const Ids& dy) {
  const ValueId q = n.inputs[0], k = n.inputs[1], v = n.inputs[2], out = n.outputs[0], lse = n.outputs[1];
  Ids gradients = {kNone, kNone, kNone};
  if (dy[0] != kNone) gradients = b.ops("attention_backward", {dy[0], q, k, v, out, lse}, n.attrs);
  if (dy[1] != kNone) {
    const ValueId p = probabilities(b, n, q, k, lse);
    const ValueId ds = b.mul(b.mul(p, column(b, dy[1])), n.attrs.real("scale"));
    gradients[0] = b.accumulate(gradients[0], b.matmul(ds, k));
    gradients[1] = b.accumulate(gradients[1], b.matmul(ds, q, true));
  }
  return gradients;
}

// out and lse are inputs of their own: what reaches them flows on through grad_attention.
Ids decompose_attention_backward(Builder& b, const Node& n) {
  const ValueId dout = n.inputs[0], q = n.inputs[1], k = n.inputs[2], v = n.inputs[3], out = n.inputs[4];
  const ValueId p = probabilities(b, n, q, k, n.inputs[5]);
  const ValueId dp = b.matmul(dout, v, false, true);
  const ValueId delta = b.sum_last(b.mul(dout, out));
  const ValueId ds = b.mul(b.mul(p, b.sub(dp, delta)), n.attrs.real("scale"));
  return {b.matmul(ds, k), b.matmul(ds, q, true), b.matmul(p, dout, true)};
}

}  // namespace

void register_attention_ops() {
  register_op(define<"attention", infer_attention, grad_attention>(3));
  register_op(define_composite<"attention_backward", infer_attention_backward, decompose_attention_backward>(6));
}

}  // namespace dlcore
