// What the ways of a matrix product share: the sizes of their blocks, packing, and what follows a finished block.
#pragma once
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {

// All tuning by processor. Blocks of A go through all panels of a block of B. AVX-512's register tile takes a row of A
// from the first-level cache and B from the second, at 9 bytes a cycle; AVX2's is narrower, so a panel of B (16 KB)
// stays in the first while a dozen tiles of A (72 KB) pass by from the second. Their sums stay there as well until k
// has gone kReach: rows of C a power of two apart share few lines of a cache. Strips of B are for fewer than
// kStripRows rows.
#ifdef DLCORE_WIDE
inline constexpr int64_t kDepth = 256, kReach = kDepth, kBlockN = 992, kTilesABlock = 1;
inline constexpr int64_t kPanelFloats = 8192;  // a panel packed on the stack: 32 KB
#else
inline constexpr int64_t kDepth = 256, kReach = 512, kBlockN = 2048, kTilesABlock = 12;
inline constexpr int64_t kPanelFloats = 4096;
#endif
inline constexpr int64_t kStripDepth = 128, kStripRows = 64;

DLCORE_INLINE const float* bias_at(const GemmArgs& g, int64_t column) { return g.bias ? g.bias + column : nullptr; }

// A block of C is done: its epilogue, while it is in the cache.
DLCORE_INLINE void finish(const GemmArgs& g, const float* c, int64_t rows, int64_t cols) {
  if (!g.epilogue) return;
  if (cols == g.n) {
    g.epilogue->range(*g.epilogue, c - g.c, rows * cols);
  } else {
    for (int64_t r = 0; r < rows; ++r) g.epilogue->range(*g.epilogue, c - g.c + r * g.n, cols);
  }
}

// Columns first … first + width of B, rows k0 … k0 + k, as panels of `columns` columns, [panel][k][columns], zeros to
// the right.
void pack_panels(const GemmArgs& g, const float* b, int64_t first, int64_t width, int64_t k0, int64_t k,
                 int64_t columns, float* dst);

// Many rows: B is packed block by block into the workspace, unless it stands ready, then swept by blocks of packed
// rows.
size_t shared_workspace(const GemmArgs& g);
void run_shared(const GemmArgs& g);

// Rows [first, first + count) of one product, count <= kTilesABlock · kTileRows, and the first `cols` of its columns, C
// (+)= A·B by the calling thread alone, both operands packed on the way. g.bias and g.epilogue do not count.
void run_rows_alone(const GemmArgs& g, int64_t first, int64_t count, int64_t cols, bool accumulate);

// Few rows by a large B that is not transposed: strips of it packed and used up in the cache, beside all of A.
size_t strips_workspace(const GemmArgs& g);
void run_strips(const GemmArgs& g);

}  // namespace dlcore::DLCORE_ISA
