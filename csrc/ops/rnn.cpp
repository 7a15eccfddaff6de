// Recurrent layers: one direction of one layer over the whole sequence, time first. The input products come from
// outside, as one matmul over all steps; docs/ops.md has the formulas.
#include "ops/define.h"

namespace dlcore {

namespace {

// The sizes that gates_x (steps, batch, gates·hidden) and w (gates·hidden, hidden) agree on.
struct Sizes {
  int64_t steps, batch, hidden, gates;
  Shape state() const { return {batch, hidden}; }
  Shape sequence(int64_t width) const { return {steps, batch, width * hidden}; }
  Shape weight() const { return {gates * hidden, hidden}; }
};

void want(Call& c, size_t i, const Shape& shape, const char* name) {
  c.want_same_dtype(0, i);
  c.want_shape(i, shape, name);
}

Sizes forward_sizes(Call& c, size_t w, int64_t gates) {
  c.want_real(0, "gates_x");
  c.want_rank(0, 3, "gates_x (steps, batch, gates)");
  c.want_same_dtype(0, w);
  c.want_rank(w, 2, "w (gates, hidden)");
  const Sizes s = {c.size(0, 0), c.size(0, 1), c.size(w, 1), gates};
  c.want_shape(w, s.weight(), "w");
  c.want_shape(0, s.sequence(gates), "gates_x");
  want(c, 1, s.state(), "h0");
  c.flag("reverse");
  return s;
}

// dy (steps, batch, hidden) leads the inputs of every backward op, y is `y`.
Sizes backward_sizes(Call& c, size_t h0, size_t w, size_t y, int64_t gates) {
  c.want_real(0, "dy");
  c.want_rank(0, 3, "dy (steps, batch, hidden)");
  const Sizes s = {c.size(0, 0), c.size(0, 1), c.size(0, 2), gates};
  want(c, 1, s.state(), "dh");
  want(c, h0, s.state(), "h0");
  want(c, w, s.weight(), "w");
  want(c, y, s.sequence(1), "y");
  c.flag("reverse");
  return s;
}

Types types(Call& c, std::initializer_list<Shape> shapes) {
  Types out;
  for (const Shape& s : shapes) out.push_back({c.dtype(0), s});
  return out;
}

Types infer_lstm(Call& c) {
  const Sizes s = forward_sizes(c, 3, 4);
  want(c, 2, s.state(), "c0");
  return types(c, {s.sequence(1), s.state(), s.state(), s.sequence(4), s.sequence(1)});
}
Types infer_gru(Call& c) {
  const Sizes s = forward_sizes(c, 2, 3);
  want(c, 3, {s.hidden}, "b_n");
  return types(c, {s.sequence(1), s.state(), s.sequence(3), s.sequence(1)});
}
Types infer_rnn(Call& c) {
  const Sizes s = forward_sizes(c, 2, 1);
  c.choice("nonlinearity", {"tanh", "relu"});
  return types(c, {s.sequence(1), s.state()});
}

Types infer_lstm_backward(Call& c) {
  const Sizes s = backward_sizes(c, 3, 5, 6, 4);
  want(c, 2, s.state(), "dc");
  want(c, 4, s.state(), "c0");
  want(c, 7, s.sequence(4), "gates");
  want(c, 8, s.sequence(1), "cells");
  return types(c, {s.sequence(4), s.state(), s.state(), s.weight()});
}
Types infer_gru_backward(Call& c) {
  const Sizes s = backward_sizes(c, 2, 3, 4, 3);
  want(c, 5, s.sequence(3), "gates");
  want(c, 6, s.sequence(1), "products");
  return types(c, {s.sequence(3), s.state(), s.weight(), s.sequence(1)});
}
Types infer_rnn_backward(Call& c) {
  const Sizes s = backward_sizes(c, 2, 3, 4, 1);
  c.choice("nonlinearity", {"tanh", "relu"});
  return types(c, {s.sequence(1), s.state(), s.weight()});
}

[[noreturn]] void no_second(const Node& n) {
  const std::string name = n.op.substr(0, n.op.find('_'));
  fail(ErrorKind::Value, "[", n.op, "] second derivative of ", name,
       " is not available; write the cell out in elementary operations where one is needed",
       n.where.empty() ? "" : " (in layer '" + n.where + "')");
}

// What came for output i, zero where nothing did. Outputs from `saved` on are for the backward op alone.
Ids arrived(Builder& b, const Node& n, const Ids& dy, size_t saved) {
  Ids out;
  for (size_t i = 0; i < dy.size(); ++i) {
    if (i >= saved && dy[i] != kNone) no_second(n);
    if (i < saved) out.push_back(dy[i] == kNone ? b.full_like(n.outputs[i], 0) : dy[i]);
  }
  return out;
}

Ids grad_lstm(Builder& b, const Node& n, const Ids& dy) {
  const Ids d = arrived(b, n, dy, 3);
  return b.ops("lstm_backward",
               {d[0], d[1], d[2], n.inputs[1], n.inputs[2], n.inputs[3], n.outputs[0], n.outputs[3], n.outputs[4]},
               n.attrs);
}
Ids grad_gru(Builder& b, const Node& n, const Ids& dy) {
  const Ids d = arrived(b, n, dy, 2);
  const Ids back =
      b.ops("gru_backward", {d[0], d[1], n.inputs[1], n.inputs[2], n.outputs[0], n.outputs[2], n.outputs[3]}, n.attrs);
  return {back[0], back[1], back[2], b.sum(back[3], {0, 1}, false)};
}
Ids grad_rnn(Builder& b, const Node& n, const Ids& dy) {
  const Ids d = arrived(b, n, dy, 2);
  return b.ops("rnn_backward", {d[0], d[1], n.inputs[1], n.inputs[2], n.outputs[0]}, n.attrs);
}
Ids grad_backward(Builder&, const Node& n, const Ids&) { no_second(n); }

}  // namespace

void register_rnn_ops() {
  register_op(define<"lstm", infer_lstm, grad_lstm>(4, 0, {{3, 0}}));
  register_op(define<"gru", infer_gru, grad_gru>(4, 0, {{2, 0}}));
  register_op(define<"rnn", infer_rnn, grad_rnn>(3, 0, {{0, 0}}));
  register_op(define<"lstm_backward", infer_lstm_backward, grad_backward>(9, 0, {{0, 7}}));
  register_op(define<"gru_backward", infer_gru_backward, grad_backward>(7, 0, {{0, 5}, {3, 6}}));
  register_op(define<"rnn_backward", infer_rnn_backward, grad_backward>(5));
}

}  // namespace dlcore
