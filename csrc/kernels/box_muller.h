// Two normal numbers of two words of random bits (Box and Muller), over the value types of math.h.
#pragma once
#include "kernels/math.h"

namespace DLCORE_MATH_NAMESPACE {

// [0, 1) in steps of 2^-24 from the upper 24 bits; the shift leaves a non-negative int.
template <class V, class U>
DLCORE_INLINE V uniform_of_bits(U bits) {
  return to_float(IntOf<V>(bits >> 8)) * 0x1p-24f;
}

template <class V>
DLCORE_INLINE void box_muller(V uniform_a, V uniform_b, V& a, V& b) {
  const V radius = sqrt(log(1.0f - uniform_a) * -2.0f), angle = uniform_b * 0x1.921fb6p+2f;  // 2π
  a = radius * cos(angle);
  b = radius * sin(angle);
}

}  // namespace DLCORE_MATH_NAMESPACE
