// GELU, its derivative and its approximation by tanh (Hendrycks and Gimpel, 2016) in about forty operations each: Φ(-a)
// = exp(-a²/2)·R(a) for a = |x|, where R falls slowly and is a polynomial in q = (3 - a)/(3 + a) (a minimax fit of its
// relative error, 3e-8). The left tail keeps its digits: within 5 ulp from -5 on and 20 left of it, 0 where x·Φ(x) is
// no normal number.
#pragma once
#include "kernels/quick_exp.h"

namespace DLCORE_MATH_NAMESPACE {

inline constexpr float kGeluEnd = 13.15f;  // beyond, a·Φ(-a) is no normal number: 0

// a is not beyond kGeluEnd; exp(-a²/2) = (2 - u)·p, with p half a 2^(j/8), and 0 beyond it.
template <class V>
struct NormalTail {
  V a, ratio, u, p;

  DLCORE_INLINE V minus(V f) const { return fma(u, f, -(f + f)); }  // f·exp(-a²/2)·(-1/p)
};

// exp's steps for -square/2 (math.h), all of them times -2, which changes no rounding and spares some: u is -2 times
// its tail and what the square lost. The sum's low bits are those of j - 8, of half the power.
template <class V>
DLCORE_INLINE NormalTail<V> normal_tail(V size) {
  constexpr float kShift = 0x1.8p23f - 8;
  const V a = at_most(size, kGeluEnd), square = a * a, lost = fma(a, a, -square);
  const V sum = fma(square, constant<V>(-4 * kLog2e), constant<V>(kShift)), k = sum - kShift;
  const V r = fma(k, constant<V>(kLn2Lo / 4), fma(k, constant<V>(kLn2Hi / 4), square));
  const V series = polynomial(r, kQuickExp[0] / -2, kQuickExp[1] / 4);
  const V q = (3.0f - a) / (a + 3.0f);
  const V ratio = polynomial(q, 0x1.f1b89cp-4f, 0x1.a6b66ap-3f, 0x1.f8baccp-4f, 0x1.7a9458p-5f, 0x1.91e0f6p-8f,
                             -0x1.7cb9a6p-9f, -0x1.01ff62p-10f, 0x1.646c3ep-12f, 0x1.e6b226p-14f, -0x1.c64002p-15f);
  const QuickParts<V> e = {fma(r * r, series, r) + lost, sum};
  return {a, ratio, e.tail, select(size > kGeluEnd, V{}, e.power())};
}

// What GELU and its derivative share, which is most of either.
template <class V>
struct GeluParts {
  V x;
  NormalTail<V> t;

  // x·Φ(x) = max(x, 0) - a·Φ(-a)
  DLCORE_INLINE V value() const { return fma(t.a * t.minus(t.ratio), t.p, at_least(x, 0.0f)); }
  // Φ(x) + x·φ(x): with s = Φ(-a) - a·φ(a), s left of 0 and 1 - s right of it.
  DLCORE_INLINE V slope() const {
    constexpr float kInvSqrt2Pi = 0x1.988454p-2f;
    const V s = t.minus(fma(t.a, constant<V>(-kInvSqrt2Pi), t.ratio)) * t.p;
    return select(x > 0.0f, 1.0f + s, -s);
  }
};
template <class V>
DLCORE_INLINE GeluParts<V> gelu_parts(V x) {
  return {x, normal_tail(magnitude(x))};
}
template <class V>
DLCORE_INLINE V gelu(V x) {
  return gelu_parts(x).value();
}
template <class V>
DLCORE_INLINE V gelu_slope(V x) {
  return gelu_parts(x).slope();
}

// x·sigmoid(2u) = max(x, 0) - a·e/(1 + e), e = exp(-2u(a)), u = sqrt(2/π)·(a + 0.044715·a³); 2u in two parts, because
// exp makes its absolute error a relative one. Within 3 ulp, and 0 from x = -9.8 on, where it is below 2e-37.
template <class V>
DLCORE_INLINE V gelu_tanh(V x) {
  constexpr float kA = 0x1.2444f2p-4f, kALo = 0x1.49b16ap-29f, kC = 0x1.988454p+0f, kCLo = -0x1.857936p-25f;
  constexpr float kEnd = 87.0f;
  const V size = magnitude(x), a = at_most(size, 12.0f);
  const V s = a * a, s_lo = fma(a, a, -s);
  const V t = s * kA, t_lo = fma(s, constant<V>(kA), -t) + fma(s_lo, constant<V>(kA), s * kALo);
  const V w = t + kC, back = w - kC;
  const V w_lo = ((t - back) + (kC - (w - back))) + (t_lo + kCLo);
  const V hi = w * a, lo = fma(w, a, -hi) + w_lo * a;
  const QuickParts<V> parts = quick_parts(at_least(-hi, -kEnd));
  const V tail = fma(-lo, parts.tail, parts.tail - lo), e = fma(tail, parts.power(), parts.power());
  const V less = a * e / (1.0f + e);
  return select(x > 0.0f, x, V{}) - select(hi > kEnd, V{}, less);
}

}  // namespace DLCORE_MATH_NAMESPACE
