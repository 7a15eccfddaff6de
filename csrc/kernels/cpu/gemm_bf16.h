// Matrix products of bfloat16, summed in float32: tables of the per-ISA code. A bfloat16 is the upper half of a
// float32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace dlcore {

// A way to multiply; the shape from GemmArgs, whose pointers do not count.
struct GemmBf16Way {
  size_t (*workspace)(const GemmArgs& shape) = nullptr;  // bytes
  void (*run)(const GemmArgs& shape, const uint16_t* a, const uint16_t* b, uint16_t* c, void* workspace) = nullptr;
};

struct GemmBf16Table {
  void (*widen)(const uint16_t* from, int64_t count, float* to);
  void (*round)(const float* from, int64_t count, uint16_t* to);  // to nearest even; NaN to the quiet one of its sign
  GemmBf16Way by_pairs;  // by dot products of pairs, for processors with has_avx512_bf16; empty without AVX-512
  GemmBf16Way by_tiles;  // and of tiles, for those with has_amx_bf16; empty where the compiler does not know them
};

namespace avx2 {
extern const GemmBf16Table gemm_bf16_table;
}
namespace avx512 {
extern const GemmBf16Table gemm_bf16_table;
}

}  // namespace dlcore
