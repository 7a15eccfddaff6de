// The element-wise ops on f32 as types with one template each, over the value types of math.h: the vector loops, the
// tile programs and the reference kernels all call these. Truth values are masks here, 1.0 and 0.0 inside a tile
// program.
#pragma once
#include "kernels/gelu.h"

// Names as in docs/ops.md. TEST ops give a mask, of one or of two operands.
// It never settles on a list of macro calls:
// clang-format off
#define DLCORE_UNARY_OPS(X)                                                               \
  X(sqrt) X(rsqrt) X(reciprocal) X(exp) X(expm1) X(log) X(log1p) X(sin) X(cos) X(tanh)    \
  X(sigmoid) X(erf) X(gelu) X(gelu_slope) X(gelu_tanh) X(silu) X(softplus) X(floor)       \
  X(ceil) X(round) X(neg) X(abs) X(sign) X(relu) X(copy) X(stop_gradient)
// clang-format on
#define DLCORE_UNARY_TEST_OPS(X) X(isnan) X(isfinite) X(logical_not)
#define DLCORE_BINARY_OPS(X) X(add) X(sub) X(mul) X(div) X(pow) X(maximum) X(minimum) X(remainder)
#define DLCORE_BINARY_TEST_OPS(X) X(eq) X(ne) X(lt) X(le) X(gt) X(ge) X(logical_and) X(logical_or) X(logical_xor)

namespace DLCORE_MATH_NAMESPACE::ops {

#define DLCORE_OP1(name, value)          \
  struct name {                          \
    template <class V>                   \
    static DLCORE_INLINE auto run(V x) { \
      return value;                      \
    }                                    \
  };
#define DLCORE_OP2(name, value)               \
  struct name {                               \
    template <class V>                        \
    static DLCORE_INLINE auto run(V a, V b) { \
      return value;                           \
    }                                         \
  };

#define DLCORE_SAME(name) DLCORE_OP1(name, DLCORE_MATH_NAMESPACE::name(x))
DLCORE_SAME(sqrt)
DLCORE_SAME(rsqrt)
DLCORE_SAME(exp)
DLCORE_SAME(expm1)
DLCORE_SAME(log)
DLCORE_SAME(log1p)
DLCORE_SAME(sin)
DLCORE_SAME(cos)
DLCORE_SAME(tanh)
DLCORE_SAME(sigmoid)
DLCORE_SAME(erf)
DLCORE_SAME(gelu)
DLCORE_SAME(gelu_slope)
DLCORE_SAME(gelu_tanh)
DLCORE_SAME(silu)
DLCORE_SAME(softplus)
DLCORE_SAME(floor)
DLCORE_SAME(ceil)
#undef DLCORE_SAME
DLCORE_OP1(round, round_even(x))
DLCORE_OP1(reciprocal, V(1.0f / x))
DLCORE_OP1(neg, V(-x))
DLCORE_OP1(abs, magnitude(x))
DLCORE_OP1(sign, select(x > 0.0f, constant<V>(1.0f), select(x < 0.0f, constant<V>(-1.0f), x)))
DLCORE_OP1(relu, select(x < 0.0f, V{}, x))
DLCORE_OP1(copy, x)
DLCORE_OP1(stop_gradient, x)
DLCORE_OP1(isnan, x != x)
DLCORE_OP1(isfinite, magnitude(x) < kInf)
DLCORE_OP1(logical_not, x == 0.0f)

DLCORE_OP2(add, V(a + b))
DLCORE_OP2(sub, V(a - b))
DLCORE_OP2(mul, V(a* b))
DLCORE_OP2(div, V(a / b))
DLCORE_OP2(pow, DLCORE_MATH_NAMESPACE::pow(a, b))
DLCORE_OP2(maximum, select((a > b) | (a != a), a, b))
DLCORE_OP2(minimum, select((a < b) | (a != a), a, b))
DLCORE_OP2(eq, a == b)
DLCORE_OP2(ne, a != b)
DLCORE_OP2(lt, a < b)
DLCORE_OP2(le, a <= b)
DLCORE_OP2(gt, a > b)
DLCORE_OP2(ge, a >= b)
DLCORE_OP2(logical_and, (a != 0.0f) & (b != 0.0f))
DLCORE_OP2(logical_or, (a != 0.0f) | (b != 0.0f))
DLCORE_OP2(logical_xor, (a != 0.0f) ^ (b != 0.0f))
#undef DLCORE_OP1
#undef DLCORE_OP2

// Exact, of the divisor's sign, lane by lane by the C library.
struct remainder {
  template <class V>
  static inline V run(V a, V b) {
    constexpr int kCount = sizeof(V) / 4;
    float x[kCount], y[kCount];
    __builtin_memcpy(x, &a, sizeof a);
    __builtin_memcpy(y, &b, sizeof b);
    for (int i = 0; i < kCount; ++i) {
      const float r = __builtin_fmodf(x[i], y[i]);
      x[i] = r == 0.0f ? __builtin_copysignf(0.0f, y[i]) : (r < 0.0f) != (y[i] < 0.0f) ? r + y[i] : r;
    }
    __builtin_memcpy(&a, x, sizeof a);
    return a;
  }
};

// Truth as a number, for tile programs.
template <class V, class M>
DLCORE_INLINE V truth(M mask) {
  return select(mask, constant<V>(1.0f), V{});
}

}  // namespace DLCORE_MATH_NAMESPACE::ops
