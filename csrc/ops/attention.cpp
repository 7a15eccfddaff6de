// Scaled dot-product attention: softmax(scale·q·kᵀ + mask)·v, a head at a time.
#include <algorithm>
#include <limits>
#include <utility>

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

// A mask is the input after `last`: it is added to the scores, and broadcasts to (batch, heads, queries, keys).
void check_mask(Call& c, size_t last, const Shape& q, const Shape& k) {
  const size_t i = last + 1;
  if (c.count() <= i) return;
  c.want_same_dtype(i, last);
  c.want_rank(i, 4, "mask (batch, heads, queries, keys)");
  const Shape &m = c.shape(i), full = {q[0], q[1], q[2], k[2]};
  bool fits = m[3] == full[3];
  for (size_t axis = 0; axis < 3; ++axis) fits = fits && (m[axis] == full[axis] || m[axis] == 1);
  c.check(fits, "mask ", to_string(m), " should be ", to_string(full), ", or 1 on axes before the last");
}

Types infer_attention(Call& c) {
  check_qkv(c, 0, 1, 2);
  const Shape& q = c.shape(0);
  check_mask(c, 2, q, c.shape(1));
  return {c.in(0), {c.dtype(0), {q[0], q[1], q[2]}}};
}

Types infer_attention_backward(Call& c) {
  check_qkv(c, 1, 2, 3);
  const Shape& q = c.shape(1);
  for (size_t i : {size_t{0}, size_t{4}, size_t{5}}) c.want_same_dtype(1, i);
  c.want_shape(0, q, "dout");
  c.want_shape(4, q, "out");
  c.want_shape(5, {q[0], q[1], q[2]}, "lse");
  check_mask(c, 5, q, c.shape(2));
  return {c.in(1), c.in(2), c.in(3)};
}

ValueId column(Builder& b, ValueId rows) {
  Shape shape = b.shape(rows);
  shape.push_back(1);
  return b.reshape(rows, std::move(shape));
}

// Values of a forward node, or of a backward node.
struct Parts {
  ValueId q, k, v, out, lse, mask;
};

// exp(scale·q·kᵀ + mask - lse). Unseen scores become -inf before exp, so that neither it nor its derivatives overflow
// there; a row that sees nothing has an lse of -inf, which must not meet them.
ValueId probabilities(Builder& b, const Node& n, const Parts& p) {
  const ValueId infinity = b.constant_like(-std::numeric_limits<double>::infinity(), p.q);
  ValueId s = b.mul(b.matmul(p.q, p.k, false, true), n.attrs.real("scale"));
  if (p.mask != kNone) s = b.add(s, p.mask);
  const ValueId lse = b.where(b.op("eq", {p.lse, infinity}), b.constant_like(0, p.lse), p.lse);
  s = b.sub(s, column(b, lse));
  if (n.attrs.integer_or("causal", 0)) {
    const int64_t queries = b.shape(p.q)[2], keys = b.shape(p.k)[2];
    const ValueId row = b.add(b.iota(queries, DType::I64), static_cast<double>(keys - queries));
    s = b.where(b.op("ge", {column(b, row), b.iota(keys, DType::I64)}), s, infinity);
  }
  return b.exp(s);
}

// Gradient of the scores, and so of the mask before it is summed to its shape.
ValueId score_gradient(Builder& b, const Parts& p, ValueId probability, ValueId dout) {
  const ValueId dp = b.matmul(dout, p.v, false, true);
  return b.mul(probability, b.sub(dp, b.sum_last(b.mul(dout, p.out))));
}

// lse's own gradient adds p·dlse to the scores'. A mask's gradient has the size of the scores: it is made of elementary
// ops, which go where nobody asks for it.
Ids grad_attention(Builder& b, const Node& n, const Ids& dy) {
  const bool masked = n.inputs.size() > 3;
  const Parts parts = {n.inputs[0], n.inputs[1], n.inputs[2], n.outputs[0], n.outputs[1], masked ? n.inputs[3] : kNone};
  Ids gradients(n.inputs.size(), kNone);
  ValueId d_mask = kNone;
  if (dy[0] != kNone) {
    Ids inputs = {dy[0], parts.q, parts.k, parts.v, parts.out, parts.lse};
    if (masked) inputs.push_back(parts.mask);
    const Ids found = b.ops("attention_backward", inputs, n.attrs);
    std::copy(found.begin(), found.end(), gradients.begin());
    if (masked) d_mask = score_gradient(b, parts, probabilities(b, n, parts), dy[0]);
  }
  if (dy[1] != kNone) {
    const ValueId d = b.mul(probabilities(b, n, parts), column(b, dy[1]));
    const ValueId ds = b.mul(d, n.attrs.real("scale"));
    gradients[0] = b.accumulate(gradients[0], b.matmul(ds, parts.k));
    gradients[1] = b.accumulate(gradients[1], b.matmul(ds, parts.q, true));
    if (masked) d_mask = b.accumulate(d_mask, d);
  }
  if (d_mask != kNone) gradients[3] = b.sum_to(d_mask, b.shape(parts.mask));
  return gradients;
}

// out and lse are inputs of their own: what reaches them flows on through grad_attention.
Ids decompose_attention_backward(Builder& b, const Node& n) {
  const ValueId dout = n.inputs[0];
  const Parts parts = {n.inputs[1], n.inputs[2], n.inputs[3],
                       n.inputs[4], n.inputs[5], n.inputs.size() > 6 ? n.inputs[6] : kNone};
  const ValueId p = probabilities(b, n, parts);
  const ValueId ds = b.mul(score_gradient(b, parts, p, dout), n.attrs.real("scale"));
  return {b.matmul(ds, parts.k), b.matmul(ds, parts.q, true), b.matmul(p, dout, true)};
}

}  // namespace

void register_attention_ops() {
  OpDef forward = define<"attention", infer_attention, grad_attention>(4);
  OpDef backward = define_composite<"attention_backward", infer_attention_backward, decompose_attention_backward>(7);
  forward.min_inputs = 3;
  backward.min_inputs = 6;
  register_op(std::move(forward));
  register_op(std::move(backward));
}

}  // namespace dlcore
