// Matrix products of bfloat16, summed in float32: tables of the per-ISA code. A bfloat16 is the upper half of a
// float32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace dlcore {

struct GemmBf16Table {
  void (*widen)(const uint16_t* from, int64_t count, float* to);
  void (*round)(const float* from, int64_t count, uint16_t* to);  // to nearest even; NaN to the quiet one of its sign
  // Products by the processor's dot product of pairs, where it has one (has_avx512_bf16), else null; the shape from
  // GemmArgs, whose pointers do not count.
  size_t (*workspace)(const GemmArgs& shape);
  void (*run)(const GemmArgs& shape, const uint16_t* a, const uint16_t* b, uint16_t* c, void* workspace);
};

namespace avx2 {
extern const GemmBf16Table gemm_bf16_table;
}
namespace avx512 {
extern const GemmBf16Table gemm_bf16_table;
}

}  // namespace dlcore
