// Average pooling, for the pooling table of the same instruction set.
#pragma once
#include "kernels/cpu/simd.h"
#include "kernels/pool_spec.h"

namespace dlcore::DLCORE_ISA {

void avg_forward(const PoolArgs& a, const float* x, float* y);
void avg_backward(const PoolArgs& a, const float* dy, float* dx);

}  // namespace dlcore::DLCORE_ISA
