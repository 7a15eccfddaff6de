// The processor's limit, measured.
#pragma once

namespace dlcore {

// Fused multiply-adds in registers on one core, float32: the most operations in a second over a few short runs, with
// the instruction set in use; 0 where the naive kernels are in use.
double fma_peak();

}  // namespace dlcore
