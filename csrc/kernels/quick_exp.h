// exp, sigmoid and tanh in ten to twenty operations each, over the same value types as kernels/math.h, for places that
// are made of little else: the gates of recurrent layers and the weights of attention.
#pragma once
#include "kernels/math.h"

namespace DLCORE_MATH_NAMESPACE {

// exp(x) = (1 + tail)·power for |x| <= 87. Added to 1.5·2^23 + 127, the whole part of x·log2(e) lands in the low bits
// of the sum as the exponent of its power of two.
template <class V>
struct QuickPower {
  V tail, power;
};
template <class V>
DLCORE_INLINE QuickPower<V> quick_power(V x) {
  constexpr float kShift = 0x1.8p23f + 127;
  const V sum = fma(x, constant<V>(kLog2e), constant<V>(kShift)), k = sum - kShift;
  const V r = fma(k, constant<V>(-kLn2Lo), fma(k, constant<V>(-kLn2Hi), x));
  const V p = polynomial(r, 0x1.fffffep-2f, 0x1.5554b2p-3f, 0x1.555714p-5f, 0x1.122674p-7f, 0x1.6b7590p-10f);
  return {fma(r * r, p, r), as_float(as_int(sum) << 23)};
}

// exp(x) for x <= 87 within 2 ulp; 0 below -87.
template <class V>
DLCORE_INLINE V quick_exp(V x) {
  const QuickPower<V> e = quick_power(x);
  return select(x < -87.0f, V{}, fma(e.tail, e.power, e.power));
}

// Within about 2 ulp of 1; the far left tail, whose last bits no gate needs, is rougher and ends at exp(-87).
template <class V>
DLCORE_INLINE V gate_sigmoid(V x) {
  const QuickPower<V> e = quick_power(-at_least(at_most(x, 87.0f), -87.0f));
  return 1.0f / (1.0f + fma(e.tail, e.power, e.power));
}

// u / (u + 2), u = exp(2x) - 1: within 3 ulp.
template <class V>
DLCORE_INLINE V gate_tanh(V x) {
  const QuickPower<V> e = quick_power(at_least(at_most(x + x, 20.0f), -20.0f));
  const V u = fma(e.tail, e.power, e.power - 1.0f);
  return u / (u + 2.0f);
}

}  // namespace DLCORE_MATH_NAMESPACE
