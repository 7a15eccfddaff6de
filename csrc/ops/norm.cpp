// Layer, root-mean-square and batch normalisation. Their backward ops take the statistics as inputs of their own, so
// that a derivative of the derivative reaches x through the statistics too: grad accepts gradients on every output.
#include "ops/define.h"

namespace dlcore {

namespace {

// ---- layer norm ----

// The leading shape of x, after checking that the normalised axes hold something.
Shape check_layer(Call& c, size_t x, size_t gamma) {
  c.want_real(x, "x");
  const int rank = c.rank(x);
  c.check(rank >= 1, "x should have at least 1 dimension");
  const int64_t dims = c.integer("dims", 1, rank);
  const Shape& shape = c.shape(x);
  const Shape lead(shape.begin(), shape.end() - dims), normal(shape.end() - dims, shape.end());
  c.check(numel(normal) >= 1, "the normalised axes ", to_string(normal), " of x ", to_string(shape), " are empty");
  c.want_same_dtype(x, gamma);
  c.want_shape(gamma, normal, "gamma");
  return lead;
}

Types infer_layer_norm(Call& c) {
  const Shape lead = check_layer(c, 0, 1);
  c.want_same_dtype(0, 2);
  c.want_shape(2, c.shape(1), "beta");
  c.finite("eps", 0);
  return {c.in(0), {c.dtype(0), lead}, {c.dtype(0), lead}};
}

Types infer_layer_norm_backward(Call& c) {
  const Shape lead = check_layer(c, 1, 2);
  for (size_t i : {size_t{0}, size_t{3}, size_t{4}}) c.want_same_dtype(1, i);
  c.want_shape(0, c.shape(1), "dy");
  c.want_shape(3, lead, "mean");
  c.want_shape(4, lead, "rstd");
  return {c.in(1), c.in(2), c.in(2)};
}

struct Layer {
  Shape stat;       // of the statistics, to broadcast against x
  IntList lead;     // the axes before the normalised ones
  IntList normal;   // the normalised ones
  double size = 1;  // of a normalised row

  Layer(Builder& b, ValueId x, int64_t dims) : stat(b.shape(x)) {
    const auto rank = static_cast<int64_t>(stat.size());
    for (int64_t i = 0; i < rank; ++i) {
      if (i < rank - dims) {
        lead.push_back(i);
      } else {
        normal.push_back(i);
        size *= static_cast<double>(stat[static_cast<size_t>(i)]);
        stat[static_cast<size_t>(i)] = 1;
      }
    }
  }
};

// mean = Σx/D gives 1/D; rstd = (Σ(x - mean)²/D + eps)^(-1/2) gives -rstd³·(x - mean)/D.
Ids grad_layer_norm(Builder& b, const Node& n, const Ids& dy) {
  const ValueId x = n.inputs[0], gamma = n.inputs[1], mean = n.outputs[1], rstd = n.outputs[2];
  const int64_t dims = n.attrs.integer("dims");
  const Layer layer(b, x, dims);
  Ids gradients = {kNone, kNone, kNone};
  if (dy[0] != kNone) gradients = b.ops("layer_norm_backward", {dy[0], x, gamma, mean, rstd}, {{"dims", dims}});
  ValueId extra = kNone;
  if (dy[1] != kNone) extra = b.mul(b.reshape(dy[1], layer.stat), 1 / layer.size);
  if (dy[2] != kNone) {
    const ValueId cube = b.mul(rstd, b.mul(rstd, rstd));
    const ValueId factor = b.reshape(b.mul(b.mul(dy[2], cube), -1 / layer.size), layer.stat);
    extra = b.accumulate(extra, b.mul(b.sub(x, b.reshape(mean, layer.stat)), factor));
  }
  if (extra != kNone) gradients[0] = b.accumulate(gradients[0], b.broadcast_to(extra, b.shape(x)));
  return gradients;
}

Ids decompose_layer_norm_backward(Builder& b, const Node& n) {
  const ValueId dy = n.inputs[0], x = n.inputs[1], gamma = n.inputs[2];
  const Layer layer(b, x, n.attrs.integer("dims"));
  const ValueId mean = b.reshape(n.inputs[3], layer.stat), rstd = b.reshape(n.inputs[4], layer.stat);
  const ValueId h = b.mul(b.sub(x, mean), rstd), g = b.mul(dy, gamma);
  const ValueId mean_g = b.mul(b.sum(g, layer.normal, true), 1 / layer.size);
  const ValueId mean_gh = b.mul(b.sum(b.mul(g, h), layer.normal, true), 1 / layer.size);
  const ValueId dx = b.mul(rstd, b.sub(b.sub(g, mean_g), b.mul(h, mean_gh)));
  return {dx, b.sum(b.mul(dy, h), layer.lead, false), b.sum(dy, layer.lead, false)};
}

// ---- root-mean-square norm ----

Types infer_rms_norm(Call& c) {
  const Shape lead = check_layer(c, 0, 1);
  c.finite("eps", 0);
  return {c.in(0), {c.dtype(0), lead}};
}

Types infer_rms_norm_backward(Call& c) {
  const Shape lead = check_layer(c, 1, 2);
  for (size_t i : {size_t{0}, size_t{3}}) c.want_same_dtype(1, i);
  c.want_shape(0, c.shape(1), "dy");
  c.want_shape(3, lead, "rstd");
  return {c.in(1), c.in(2)};
}

// rstd = (Σx²/D + eps)^(-1/2) gives -rstd³·x/D.
Ids grad_rms_norm(Builder& b, const Node& n, const Ids& dy) {
  const ValueId x = n.inputs[0], gamma = n.inputs[1], rstd = n.outputs[1];
  const int64_t dims = n.attrs.integer("dims");
  const Layer layer(b, x, dims);
  Ids gradients = {kNone, kNone};
  if (dy[0] != kNone) gradients = b.ops("rms_norm_backward", {dy[0], x, gamma, rstd}, {{"dims", dims}});
  if (dy[1] != kNone) {
    const ValueId cube = b.mul(rstd, b.mul(rstd, rstd));
    const ValueId factor = b.reshape(b.mul(b.mul(dy[1], cube), -1 / layer.size), layer.stat);
    gradients[0] = b.accumulate(gradients[0], b.mul(x, factor));
  }
  return gradients;
}

Ids decompose_rms_norm_backward(Builder& b, const Node& n) {
  const ValueId dy = n.inputs[0], x = n.inputs[1], gamma = n.inputs[2];
  const Layer layer(b, x, n.attrs.integer("dims"));
  const ValueId rstd = b.reshape(n.inputs[3], layer.stat);
  const ValueId h = b.mul(x, rstd), g = b.mul(dy, gamma);
  const ValueId mean_gh = b.mul(b.sum(b.mul(g, h), layer.normal, true), 1 / layer.size);
  return {b.mul(rstd, b.sub(g, b.mul(h, mean_gh))), b.sum(b.mul(dy, h), layer.lead, false)};
}

// ---- batch norm ----

Shape check_batch(Call& c, size_t x, size_t gamma) {
  c.want_real(x, "x");
  const int axis = c.axis("axis", c.rank(x));
  const Shape channels = {c.size(x, axis)};
  c.check(numel(c.shape(x)) > 0 || channels[0] == 0, "x ", to_string(c.shape(x)), " holds no element of a channel");
  c.want_same_dtype(x, gamma);
  c.want_shape(gamma, channels, "gamma");
  c.finite("eps", 0);
  return channels;
}

Types infer_batch_norm(Call& c) {
  const Shape channels = check_batch(c, 0, 1);
  c.want_same_dtype(0, 2);
  c.want_shape(2, channels, "beta");
  return {c.in(0), c.in(1), c.in(1)};
}

Types infer_batch_norm_backward(Call& c) {
  const Shape channels = check_batch(c, 1, 2);
  for (size_t i : {size_t{0}, size_t{3}, size_t{4}}) c.want_same_dtype(1, i);
  c.want_shape(0, c.shape(1), "dy");
  c.want_shape(3, channels, "mean");
  c.want_shape(4, channels, "var");
  return {c.in(1), c.in(2), c.in(2)};
}

struct Batch {
  Shape stat;     // (1, C, 1, 1)
  IntList other;  // all axes but the channels'
  double size;    // elements of a channel

  Batch(Builder& b, const Node& n, ValueId x) : stat(b.shape(x)) {
    const auto axis = normalize_axis(n.attrs.integer("axis"), b.rank(x), "batch_norm");
    size = 1;
    for (int i = 0; i < b.rank(x); ++i) {
      if (i == axis) continue;
      other.push_back(i);
      size *= static_cast<double>(stat[static_cast<size_t>(i)]);
      stat[static_cast<size_t>(i)] = 1;
    }
  }
};

// mean = Σx/n gives 1/n; var = Σ(x - mean)²/n gives 2·(x - mean)/n.
Ids grad_batch_norm(Builder& b, const Node& n, const Ids& dy) {
  const ValueId x = n.inputs[0], gamma = n.inputs[1], mean = n.outputs[1], var = n.outputs[2];
  const Batch batch(b, n, x);
  Ids gradients = {kNone, kNone, kNone};
  if (dy[0] != kNone) gradients = b.ops("batch_norm_backward", {dy[0], x, gamma, mean, var}, n.attrs);
  ValueId extra = kNone;
  if (dy[1] != kNone) extra = b.mul(b.reshape(dy[1], batch.stat), 1 / batch.size);
  if (dy[2] != kNone) {
    const ValueId factor = b.reshape(b.mul(dy[2], 2 / batch.size), batch.stat);
    extra = b.accumulate(extra, b.mul(b.sub(x, b.reshape(mean, batch.stat)), factor));
  }
  if (extra != kNone) gradients[0] = b.accumulate(gradients[0], b.broadcast_to(extra, b.shape(x)));
  return gradients;
}

Ids decompose_batch_norm_backward(Builder& b, const Node& n) {
  const ValueId dy = n.inputs[0], x = n.inputs[1], gamma = n.inputs[2];
  const Batch batch(b, n, x);
  const ValueId mean = b.reshape(n.inputs[3], batch.stat);
  // sqrt and a quotient rather than rsqrt: as the op itself rounds.
  const ValueId deviation = b.op("sqrt", {b.add(n.inputs[4], n.attrs.real("eps"))});
  const ValueId rstd = b.reshape(b.div(b.constant_like(1, x), deviation), batch.stat);
  const ValueId h = b.mul(b.sub(x, mean), rstd);
  const ValueId dbeta = b.sum(dy, batch.other, false), dgamma = b.sum(b.mul(dy, h), batch.other, false);
  const ValueId mean_dy = b.reshape(b.mul(dbeta, 1 / batch.size), batch.stat);
  const ValueId mean_dyh = b.reshape(b.mul(dgamma, 1 / batch.size), batch.stat);
  const ValueId scale = b.mul(b.reshape(gamma, batch.stat), rstd);
  return {b.mul(scale, b.sub(b.sub(dy, mean_dy), b.mul(h, mean_dyh))), dgamma, dbeta};
}

}  // namespace

void register_norm_ops() {
  register_op(define<"layer_norm", infer_layer_norm, grad_layer_norm>(3));
  register_op(define_composite<"layer_norm_backward", infer_layer_norm_backward, decompose_layer_norm_backward>(5));
  register_op(define<"rms_norm", infer_rms_norm, grad_rms_norm>(2));
  register_op(define_composite<"rms_norm_backward", infer_rms_norm_backward, decompose_rms_norm_backward>(4));
  register_op(define<"batch_norm", infer_batch_norm, grad_batch_norm>(3));
  register_op(define_composite<"batch_norm_backward", infer_batch_norm_backward, decompose_batch_norm_backward>(5));
}

}  // namespace dlcore
