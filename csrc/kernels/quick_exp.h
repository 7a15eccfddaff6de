// exp and sigmoid without their far ends, over the same value types as kernels/math.h, for places that are made of
// little else: the gates of recurrent layers, the weights of attention, softmax.
#pragma once
#include "kernels/math.h"

namespace DLCORE_MATH_NAMESPACE {

// exp(x) for x <= 87 within 2 ulp; 0 below -87.
template <class V>
DLCORE_INLINE V quick_exp(V x) {
  return select(x < -87.0f, V{}, quick_parts(x).value());
}

// Within about 2 ulp of 1; the far left tail, whose last bits no gate needs, is rougher and ends at exp(-87).
template <class V>
DLCORE_INLINE V gate_sigmoid(V x) {
  return 1.0f / (1.0f + quick_parts(-at_least(at_most(x, 87.0f), -87.0f)).value());
}

}  // namespace DLCORE_MATH_NAMESPACE
