// Average pooling, for the pooling table of the same instruction set.
#pragma once
#include "kernels/cpu/simd.h"
#include "kernels/pool_spec.h"

namespace dlcore::DLCORE_ISA {

// Windows of two by two inputs side by side, all inside the image (dilation aside).
DLCORE_INLINE bool is_halving(const PoolArgs& a) {
  return a.kh == 2 && a.kw == 2 && a.sh == 2 && a.sw == 2 && a.top == 0 && a.left == 0 && 2 * a.oh <= a.h &&
         2 * a.ow <= a.w;
}

void avg_forward(const PoolArgs& a, const float* x, float* y);
void avg_backward(const PoolArgs& a, const float* dy, float* dx);

}  // namespace dlcore::DLCORE_ISA
