// Element-wise ops: unary, binary, comparisons, logic, selection and conversion.
#include <cmath>
#include <numbers>

#include "ops/define.h"

namespace dlcore {

namespace {

// ---- inference ----

Types unary_real(Call& c) {
  c.want_real(0, "the input");
  return {c.in(0)};
}

Types unary_number(Call& c) {
  c.want_number(0, "the input");
  return {c.in(0)};
}

Types unary_any(Call& c) { return {c.in(0)}; }

Types two_reals(Call& c) {
  c.want_real(0, "the input");
  return {c.in(0), c.in(0)};
}

Types real_test(Call& c) {
  c.want_real(0, "the input");
  return {{DType::Bool, c.shape(0)}};
}

Types binary_number(Call& c) {
  c.want_same_dtype(0, 1);
  c.want_number(0, "the first input");
  return {{c.dtype(0), c.broadcast_all()}};
}

Types binary_real(Call& c) {
  c.want_same_dtype(0, 1);
  c.want_real(0, "the first input");
  return {{c.dtype(0), c.broadcast_all()}};
}

Types compare_number(Call& c) {
  c.want_same_dtype(0, 1);
  c.want_number(0, "the first input");
  return {{DType::Bool, c.broadcast_all()}};
}

Types compare_equal(Call& c) {
  c.want_same_dtype(0, 1);
  if (c.dtype(0) != DType::Bool) c.want_number(0, "the first input");
  return {{DType::Bool, c.broadcast_all()}};
}

Types unary_bool(Call& c) {
  c.want_dtype(0, DType::Bool, "the input");
  return {c.in(0)};
}

Types binary_bool(Call& c) {
  c.want_dtype(0, DType::Bool, "the first input");
  c.want_dtype(1, DType::Bool, "the second input");
  return {{DType::Bool, c.broadcast_all()}};
}

Types infer_where(Call& c) {
  c.want_dtype(0, DType::Bool, "the condition");
  c.want_same_dtype(1, 2);
  return {{c.dtype(1), c.broadcast_all()}};
}

Types infer_cast(Call& c) { return {{c.dtype_attr("dtype"), c.shape(0)}}; }

// ---- derivatives of unary ops: dy times the slope, written by the input x or the output y ----

using Slope = ValueId (*)(Builder& b, ValueId x, ValueId y);

template <Slope kSlope>
Ids by_slope(Builder& b, const Node& n, const Ids& dy) {
  return {b.mul(dy[0], kSlope(b, n.inputs[0], n.outputs[0]))};
}

ValueId one_minus(Builder& b, ValueId v) { return b.sub(b.constant_like(1, v), v); }

ValueId slope_rsqrt(Builder& b, ValueId, ValueId y) { return b.mul(b.mul(y, b.mul(y, y)), -0.5); }
ValueId slope_reciprocal(Builder& b, ValueId, ValueId y) { return b.neg(b.mul(y, y)); }
ValueId slope_exp(Builder&, ValueId, ValueId y) { return y; }
ValueId slope_expm1(Builder& b, ValueId, ValueId y) { return b.add(y, 1.0); }
ValueId slope_sin(Builder& b, ValueId x, ValueId) { return b.op("cos", {x}); }
ValueId slope_cos(Builder& b, ValueId x, ValueId) { return b.neg(b.op("sin", {x})); }
ValueId slope_tanh(Builder& b, ValueId, ValueId y) { return one_minus(b, b.mul(y, y)); }
ValueId slope_sigmoid(Builder& b, ValueId, ValueId y) { return b.mul(y, one_minus(b, y)); }
ValueId slope_softplus(Builder& b, ValueId x, ValueId) { return b.op("sigmoid", {x}); }
ValueId slope_abs(Builder& b, ValueId x, ValueId) { return b.op("sign", {x}); }

ValueId slope_erf(Builder& b, ValueId x, ValueId) {
  return b.mul(b.exp(b.neg(b.mul(x, x))), 2 * std::numbers::inv_sqrtpi);
}

ValueId slope_gelu(Builder& b, ValueId x, ValueId) { return b.op("gelu_slope", {x}); }

// (2 - x²)·φ(x)
ValueId slope_gelu_slope(Builder& b, ValueId x, ValueId) {
  const ValueId square = b.mul(x, x);
  const ValueId pdf = b.mul(b.exp(b.mul(square, -0.5)), std::numbers::inv_sqrtpi / std::numbers::sqrt2);
  return b.mul(pdf, b.add(b.neg(square), 2.0));
}

// gelu_tanh(x) = x/2·(1 + t), t = tanh(c·(x + a·x³)): the slope is (1 + t)/2 + x/2·(1 - t²)·c·(1 + 3a·x²).
ValueId slope_gelu_tanh(Builder& b, ValueId x, ValueId) {
  constexpr double kA = 0.044715;
  const double c = std::sqrt(2 * std::numbers::inv_pi);
  const ValueId square = b.mul(x, x);
  const ValueId t = b.op("tanh", {b.mul(b.mul(x, b.add(b.mul(square, kA), 1.0)), c)});
  const ValueId inner = b.mul(b.add(b.mul(square, 3 * kA), 1.0), c);
  const ValueId bend = b.mul(b.mul(x, one_minus(b, b.mul(t, t))), inner);
  return b.mul(b.add(b.add(t, 1.0), bend), 0.5);
}

// s·(1 + x·(1 - s))
ValueId slope_silu(Builder& b, ValueId x, ValueId) {
  const ValueId s = b.op("sigmoid", {x});
  return b.mul(s, b.add(b.mul(x, one_minus(b, s)), 1.0));
}

Ids grad_sqrt(Builder& b, const Node& n, const Ids& dy) { return {b.div(b.mul(dy[0], 0.5), n.outputs[0])}; }
Ids grad_log(Builder& b, const Node& n, const Ids& dy) { return {b.div(dy[0], n.inputs[0])}; }
Ids grad_log1p(Builder& b, const Node& n, const Ids& dy) { return {b.div(dy[0], b.add(n.inputs[0], 1.0))}; }
Ids grad_neg(Builder& b, const Node&, const Ids& dy) { return {b.neg(dy[0])}; }
Ids grad_copy(Builder&, const Node&, const Ids& dy) { return {dy[0]}; }

// By the output: where it is positive so is the input, which then need not be kept.
Ids grad_relu(Builder& b, const Node& n, const Ids& dy) {
  const ValueId zero = b.constant_like(0, dy[0]);
  return {b.where(b.op("gt", {n.outputs[0], zero}), dy[0], zero)};
}

Ids grad_cast(Builder& b, const Node& n, const Ids& dy) {
  const DType from = b.dtype(n.inputs[0]);
  return {is_float(from) && is_float(b.dtype(n.outputs[0])) ? b.cast(dy[0], from) : kNone};
}

// ---- derivatives of binary ops ----

// The gradients of the two inputs, summed over what was broadcast.
Ids unbroadcast(Builder& b, const Node& n, ValueId da, ValueId db) {
  return {b.sum_to(da, b.shape(n.inputs[0])), b.sum_to(db, b.shape(n.inputs[1]))};
}

Ids grad_add(Builder& b, const Node& n, const Ids& dy) { return unbroadcast(b, n, dy[0], dy[0]); }

Ids grad_sub(Builder& b, const Node& n, const Ids& dy) {
  const ValueId db = b.sum_to(dy[0], b.shape(n.inputs[1]));  // summed first: less to negate
  return {b.sum_to(dy[0], b.shape(n.inputs[0])), b.neg(db)};
}

Ids grad_mul(Builder& b, const Node& n, const Ids& dy) {
  return unbroadcast(b, n, b.mul(dy[0], n.inputs[1]), b.mul(dy[0], n.inputs[0]));
}

Ids grad_div(Builder& b, const Node& n, const Ids& dy) {
  const ValueId da = b.div(dy[0], n.inputs[1]);
  return unbroadcast(b, n, da, b.neg(b.mul(da, n.outputs[0])));
}

// d/dx = p·x^(p-1), zero where p = 0; d/dp = x^p·log x, zero where x = 0. Arguments at those points are replaced by 1
// before use, so that no infinity meets a zero in this derivative or in the next.
Ids grad_pow(Builder& b, const Node& n, const Ids& dy) {
  const ValueId x = n.inputs[0], p = n.inputs[1];
  const ValueId zero = b.constant_like(0, x), one = b.constant_like(1, x);
  const ValueId flat = b.op("eq", {p, zero});
  const ValueId p_safe = b.where(flat, one, p);
  const ValueId slope = b.mul(p_safe, b.op("pow", {x, b.add(p_safe, -1.0)}));
  const ValueId dx = b.mul(dy[0], b.where(flat, zero, slope));
  const ValueId at_zero = b.op("eq", {x, zero});
  const ValueId x_safe = b.where(at_zero, one, x);
  const ValueId log = b.op("log", {x_safe});
  const ValueId dp = b.mul(dy[0], b.where(at_zero, zero, b.mul(b.op("pow", {x_safe, p}), log)));
  return unbroadcast(b, n, dx, dp);
}

// dy to the side that `wins`, half to each where they are equal.
Ids grad_extreme(Builder& b, const Node& n, const Ids& dy, const char* wins) {
  const ValueId x = n.inputs[0], y = n.inputs[1];
  const ValueId zero = b.constant_like(0, dy[0]);
  const ValueId tie = b.op("eq", {x, y});
  const ValueId half = b.mul(dy[0], 0.5);
  const ValueId dx = b.where(tie, half, b.where(b.op(wins, {x, y}), dy[0], zero));
  const ValueId dz = b.where(tie, half, b.where(b.op(wins, {y, x}), dy[0], zero));
  return unbroadcast(b, n, dx, dz);
}

Ids grad_maximum(Builder& b, const Node& n, const Ids& dy) { return grad_extreme(b, n, dy, "gt"); }
Ids grad_minimum(Builder& b, const Node& n, const Ids& dy) { return grad_extreme(b, n, dy, "lt"); }

// x - floor(x/y)·y
Ids grad_remainder(Builder& b, const Node& n, const Ids& dy) {
  const ValueId quotient = b.op("floor", {b.div(n.inputs[0], n.inputs[1])});
  return unbroadcast(b, n, dy[0], b.neg(b.mul(dy[0], quotient)));
}

Ids grad_where(Builder& b, const Node& n, const Ids& dy) {
  const ValueId zero = b.constant_like(0, dy[0]);
  const ValueId da = b.where(n.inputs[0], dy[0], zero), db = b.where(n.inputs[0], zero, dy[0]);
  return {kNone, b.sum_to(da, b.shape(n.inputs[1])), b.sum_to(db, b.shape(n.inputs[2]))};
}

// What the pass `pairs` makes of the two.
Ids decompose_gelu_with_slope(Builder& b, const Node& n) {
  return {b.op("gelu", {n.inputs[0]}), b.op("gelu_slope", {n.inputs[0]})};
}

// ---- registration ----

constexpr uint32_t kMap = kElementwise, kStep = kElementwise | kZeroGrad;
const std::vector<InPlace> kOver0 = {{0, 0}};  // the planner applies a pair only where types are equal
const std::vector<InPlace> kOver01 = {{0, 0}, {0, 1}};

template <OpName kName, Slope kSlope>
void real_unary() {
  register_op(define<kName, unary_real, by_slope<kSlope>>(1, kMap, kOver0));
}

template <OpName kName>
void real_step() {
  register_op(define<kName, unary_real>(1, kStep, kOver0));
}

template <OpName kName, GradRule kGrad>
void number_binary(uint32_t flags = 0) {
  register_op(define<kName, binary_number, kGrad>(2, kMap | flags, kOver01));
}

void register_unary() {
  real_unary<"rsqrt", slope_rsqrt>();
  real_unary<"reciprocal", slope_reciprocal>();
  real_unary<"exp", slope_exp>();
  real_unary<"expm1", slope_expm1>();
  real_unary<"sin", slope_sin>();
  real_unary<"cos", slope_cos>();
  real_unary<"tanh", slope_tanh>();
  real_unary<"sigmoid", slope_sigmoid>();
  real_unary<"erf", slope_erf>();
  real_unary<"gelu", slope_gelu>();
  real_unary<"gelu_slope", slope_gelu_slope>();
  register_op(define_composite<"gelu_with_slope", two_reals, decompose_gelu_with_slope>(1, kElementwise, kOver0));
  real_unary<"gelu_tanh", slope_gelu_tanh>();
  real_unary<"silu", slope_silu>();
  real_unary<"softplus", slope_softplus>();
  register_op(define<"sqrt", unary_real, grad_sqrt>(1, kMap, kOver0));
  register_op(define<"log", unary_real, grad_log>(1, kMap, kOver0));
  register_op(define<"log1p", unary_real, grad_log1p>(1, kMap, kOver0));
  real_step<"floor">();
  real_step<"ceil">();
  real_step<"round">();
  register_op(define<"sign", unary_number>(1, kStep, kOver0));
  register_op(define<"neg", unary_number, grad_neg>(1, kMap, kOver0));
  register_op(define<"abs", unary_number, by_slope<slope_abs>>(1, kMap, kOver0));
  register_op(define<"relu", unary_number, grad_relu>(1, kMap, kOver0));
  register_op(define<"isnan", real_test>(1, kStep));
  register_op(define<"isfinite", real_test>(1, kStep));
  register_op(define<"logical_not", unary_bool>(1, kStep, kOver0));
  register_op(define<"copy", unary_any, grad_copy>(1, kMap, kOver0));
  register_op(define<"stop_gradient", unary_any>(1, kStep, kOver0));
  register_op(define<"cast", infer_cast, grad_cast>(1, kMap, kOver0));
}

void register_binary() {
  number_binary<"add", grad_add>(kCommutative);
  number_binary<"sub", grad_sub>();
  number_binary<"mul", grad_mul>(kCommutative);
  number_binary<"maximum", grad_maximum>(kCommutative);
  number_binary<"minimum", grad_minimum>(kCommutative);
  number_binary<"remainder", grad_remainder>();
  register_op(define<"div", binary_real, grad_div>(2, kMap, kOver01));
  register_op(define<"pow", binary_real, grad_pow>(2, kMap, kOver01));
  register_op(define<"eq", compare_equal>(2, kStep | kCommutative, kOver01));
  register_op(define<"ne", compare_equal>(2, kStep | kCommutative, kOver01));
  register_op(define<"lt", compare_number>(2, kStep));
  register_op(define<"le", compare_number>(2, kStep));
  register_op(define<"gt", compare_number>(2, kStep));
  register_op(define<"ge", compare_number>(2, kStep));
  register_op(define<"logical_and", binary_bool>(2, kStep | kCommutative, kOver01));
  register_op(define<"logical_or", binary_bool>(2, kStep | kCommutative, kOver01));
  register_op(define<"logical_xor", binary_bool>(2, kStep | kCommutative, kOver01));
  register_op(define<"where", infer_where, grad_where>(3, kMap, {{0, 1}, {0, 2}}));
}

}  // namespace

void register_elementwise_ops() {
  register_unary();
  register_binary();
}

}  // namespace dlcore
