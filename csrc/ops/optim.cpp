// The optimizers' updates. They end a step: no derivative.
#include "ops/define.h"

namespace dlcore {

namespace {

// p and the `slots` values after it (gradient, moments) are of one type; then comes lr.
void check_update(Call& c, size_t slots) {
  static constexpr const char* kNames[] = {"p", "g", "m", "v"};
  c.want_real(0, "p");
  for (size_t i = 1; i <= slots; ++i) {
    c.want_same_dtype(0, i);
    c.want_shape(i, c.shape(0), kNames[i]);
  }
  c.want_same_dtype(0, slots + 1);
  c.want_shape(slots + 1, {}, "lr");
  c.finite("weight_decay");
}

void check_step(Call& c, size_t i) {
  c.want_dtype(i, DType::I64, "step");
  c.want_shape(i, {}, "step");
}

Types infer_sgd_plain(Call& c) {
  check_update(c, 1);
  return {c.in(0)};
}

Types infer_sgd(Call& c) {
  check_update(c, 2);
  check_step(c, 4);
  c.finite("momentum");
  c.finite("dampening");
  c.flag("nesterov");
  return {c.in(0), c.in(0)};
}

Types infer_adam(Call& c) {
  check_update(c, 3);
  check_step(c, 5);
  for (const char* name : {"beta1", "beta2"}) {
    const double beta = c.finite(name, 0);
    c.check(beta < 1, name, " should be below 1, got ", beta);
  }
  c.finite("eps", 0);
  c.flag("decoupled");
  return {c.in(0), c.in(0), c.in(0)};
}

}  // namespace

void register_optim_ops() {
  register_op(define<"sgd_plain_update", infer_sgd_plain>(3, 0, {{0, 0}}));
  register_op(define<"sgd_update", infer_sgd>(5, 0, {{0, 0}, {1, 2}}));
  register_op(define<"adam_update", infer_adam>(6, 0, {{0, 0}, {1, 2}, {2, 3}}));
}

}  // namespace dlcore
