// Group normalisation: images as (N, C, …), statistics of each row's groups of channels. As in norm.cpp the backward op
// takes the statistics as inputs of their own.
#include "ops/define.h"

namespace dlcore {

void register_group_norm_ops();

namespace {

// The shape of the statistics.
Shape check_groups(Call& c, size_t x, size_t gamma) {
  c.want_real(x, "x");
  c.check(c.rank(x) >= 2, "x should have at least 2 dimensions (N, C, …), got ", to_string(c.in(x)));
  const int64_t channels = c.size(x, 1), groups = c.integer("groups", 1, std::max<int64_t>(channels, 1));
  c.check(channels % groups == 0, channels, " channels do not fall into ", groups, " equal groups");
  for (int axis = 1; axis < c.rank(x); ++axis)
    c.check(c.size(x, axis) > 0, "x ", to_string(c.shape(x)), " holds no element of a group");
  c.want_same_dtype(x, gamma);
  c.want_shape(gamma, {channels}, "gamma");
  return {c.size(x, 0), groups};
}

Types infer_group_norm(Call& c) {
  const Shape stat = check_groups(c, 0, 1);
  c.want_same_dtype(0, 2);
  c.want_shape(2, c.shape(1), "beta");
  c.finite("eps", 0);
  return {c.in(0), {c.dtype(0), stat}, {c.dtype(0), stat}};
}

Types infer_group_norm_backward(Call& c) {
  const Shape stat = check_groups(c, 1, 2);
  for (size_t i : {size_t{0}, size_t{3}, size_t{4}}) c.want_same_dtype(1, i);
  c.want_shape(0, c.shape(1), "dy");
  c.want_shape(3, stat, "mean");
  c.want_shape(4, stat, "rstd");
  return {c.in(1), c.in(2), c.in(2)};
}

struct Groups {
  Shape split;      // (N, G, C/G, the rest as one)
  Shape stat;       // (N, G, 1, 1)
  Shape channel;    // (G, C/G, 1)
  double size = 1;  // of a group

  Groups(Builder& b, const Node& n, ValueId x) {
    const Shape shape = b.shape(x);
    const int64_t groups = n.attrs.integer("groups"), own = shape[1] / groups;
    int64_t rest = 1;
    for (size_t i = 2; i < shape.size(); ++i) rest *= shape[i];
    split = {shape[0], groups, own, rest};
    stat = {shape[0], groups, 1, 1};
    channel = {groups, own, 1};
    size = static_cast<double>(own * rest);
  }
};

// As a layer norm's over a group: 1/D for the mean, -rstd³·(x - mean)/D for rstd.
Ids grad_group_norm(Builder& b, const Node& n, const Ids& dy) {
  const ValueId x = n.inputs[0], gamma = n.inputs[1], mean = n.outputs[1], rstd = n.outputs[2];
  const Groups g(b, n, x);
  Ids gradients = {kNone, kNone, kNone};
  if (dy[0] != kNone)
    gradients = b.ops("group_norm_backward", {dy[0], x, gamma, mean, rstd}, {{"groups", n.attrs.integer("groups")}});
  ValueId extra = kNone;
  if (dy[1] != kNone) extra = b.mul(b.reshape(dy[1], g.stat), 1 / g.size);
  if (dy[2] != kNone) {
    const ValueId cube = b.mul(rstd, b.mul(rstd, rstd));
    const ValueId factor = b.reshape(b.mul(b.mul(dy[2], cube), -1 / g.size), g.stat);
    extra = b.accumulate(extra, b.mul(b.sub(b.reshape(x, g.split), b.reshape(mean, g.stat)), factor));
  }
  if (extra != kNone) gradients[0] = b.accumulate(gradients[0], b.reshape(b.broadcast_to(extra, g.split), b.shape(x)));
  return gradients;
}

Ids decompose_group_norm_backward(Builder& b, const Node& n) {
  const ValueId x = n.inputs[1], gamma = n.inputs[2];
  const Groups g(b, n, x);
  const ValueId dy = b.reshape(n.inputs[0], g.split);
  const ValueId mean = b.reshape(n.inputs[3], g.stat), rstd = b.reshape(n.inputs[4], g.stat);
  const ValueId h = b.mul(b.sub(b.reshape(x, g.split), mean), rstd), scaled = b.mul(dy, b.reshape(gamma, g.channel));
  const ValueId a = b.mul(b.sum(scaled, {2, 3}, true), 1 / g.size);
  const ValueId c = b.mul(b.sum(b.mul(scaled, h), {2, 3}, true), 1 / g.size);
  const ValueId dx = b.mul(rstd, b.sub(b.sub(scaled, a), b.mul(h, c)));
  const auto channels = [&](ValueId v) { return b.reshape(b.sum(v, {0, 3}, false), b.shape(gamma)); };
  return {b.reshape(dx, b.shape(x)), channels(b.mul(dy, h)), channels(dy)};
}

}  // namespace

void register_group_norm_ops() {
  register_op(define<"group_norm", infer_group_norm, grad_group_norm>(3));
  register_op(define_composite<"group_norm_backward", infer_group_norm_backward, decompose_group_norm_backward>(5));
}

}  // namespace dlcore
