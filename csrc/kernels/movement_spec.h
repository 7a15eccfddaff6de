// Shape ops as one strided copy: what reshape, transpose, broadcast_to, reverse, slice and pad have in common.
#pragma once
#include <cstdint>

#include "kernels/registry.h"

namespace dlcore {

// out[out_offset + Σ i·out_stride] = in[in_offset + Σ i·in_stride] for every i in size; offsets and strides in
// elements.
struct StridedCopy {
  Shape size;
  IntList in_stride, out_stride;
  int64_t in_offset = 0, out_offset = 0;
};

// Checks attributes and types against each other (the copy then stays in bounds); throws Error(Value).
StridedCopy strided_copy(const KernelSpec& spec);

// Normalised axis of a concat whose inputs and output agree; throws Error(Value).
int concat_axis(const KernelSpec& spec);

// The low size_of(dtype) bytes hold value as that dtype: rounded to nearest even, or saturated (NaN → 0) for integers.
uint64_t scalar_bits(double value, DType dtype);

}  // namespace dlcore
