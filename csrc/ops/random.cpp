// Counter-based random numbers: keyed by (seed, step), a graph value, and by the site, an attribute.
#include "ops/define.h"

namespace dlcore {

namespace {

void want_rng(Call& c, size_t i) {
  c.want_dtype(i, DType::I64, "rng");
  c.want_shape(i, {2}, "rng (seed, step)");
  c.integer("site", 0, int64_t{0xffffffff});
}

Types infer_uniform(Call& c) {
  want_rng(c, 0);
  const double low = c.finite("low"), high = c.finite("high");
  c.check(low <= high, "low should not exceed high, got ", low, " and ", high);
  return {{DType::F32, c.shape_attr("shape")}};
}

Types infer_normal(Call& c) {
  want_rng(c, 0);
  return {{DType::F32, c.shape_attr("shape")}};
}

Types infer_dropout(Call& c) {
  c.want_real(0, "x");
  want_rng(c, 1);
  c.finite("p", 0, 1);
  if (c.flag("channels_last"))
    c.check(c.in(0).shape.size() >= 3, "channels_last wants images, got ", to_string(c.in(0)));
  return {c.in(0)};
}

// Linear in x with the same mask, which the site and rng give again.
Ids grad_dropout(Builder& b, const Node& n, const Ids& dy) {
  return {b.op("dropout", {dy[0], n.inputs[1]}, n.attrs), kNone};
}

}  // namespace

void register_random_ops() {
  register_op(define<"random_uniform", infer_uniform>(1, kZeroGrad));
  register_op(define<"random_normal", infer_normal>(1, kZeroGrad));
  register_op(define<"dropout", infer_dropout, grad_dropout>(2, 0, {{0, 0}}));
}

}  // namespace dlcore
