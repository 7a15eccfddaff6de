// Products of bfloat16: what the dot products of pairs and of tiles share. Operands are packed as pairs along the
// reduction.
#pragma once
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/isa/gemm_micro.h"

#ifdef DLCORE_WIDE
namespace dlcore::DLCORE_ISA {

inline constexpr int64_t kGroup = 4 * kPanel;  // columns of B packed by one task

// A matrix of pairs: element (lane, k) at data + lane·lane_step + k·k_step; one of the two steps is 1.
struct Source {
  const uint16_t* data;
  int64_t lane_step, k_step;
  const uint16_t* at(int64_t lane, int64_t k) const { return data + lane * lane_step + k * k_step; }
};

inline Source left_of(const GemmArgs& g, const uint16_t* a, int64_t i) { return {a + g.a_offset[i], g.a_row, g.a_col}; }
inline Source right_of(const GemmArgs& g, const uint16_t* b, int64_t i) {
  return {b + g.b_offset[i], g.b_transposed ? g.ldb : 1, g.b_transposed ? 1 : g.ldb};
}

// Lanes [lane, lane + count) (at most W) and elements [k0, k0 + k) → to[pair·width + lane], W lanes written at each
// pair in ascending order, those beyond `count` zero.
void pack(const Source& s, int64_t lane, int64_t count, int64_t k0, int64_t k, int64_t width, int32_t* to);

// Columns n0 … n0 + n of B as panels [pair][kPanel], each of `pairs` pairs, one after the other.
void pack_group(const Source& b, int64_t n0, int64_t n, int64_t k0, int64_t k, int64_t pairs, int32_t* packed);

// By the processor's products of tiles; empty where the compiler does not know them.
extern const GemmBf16Way gemm_by_tiles;

}  // namespace dlcore::DLCORE_ISA
#endif
