// The register tile that products and convolutions are made of, and the transposition that packs for it.
#pragma once
#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
// A block size of at most `limit` that cuts `total` into nearly equal parts.
inline int64_t even(int64_t total, int64_t limit) {
  return total <= limit ? total : ceil_div(total, ceil_div(total, limit));
}

// A number that is part of its type, for unrolled loops.
template <int N>
struct Constant {
  constexpr operator int() const { return N; }
};

// body(k0, end) for each piece of k, and for the empty one of k = 0.
template <class F>
DLCORE_INLINE void for_pieces(int64_t k, int64_t piece, F&& body) {
  int64_t k0 = 0;
  do {
    body(k0, min64(k, k0 + piece));
    k0 += piece;
  } while (k0 < k);
}

// Rows of C that are written next: they lie apart, and what writes them would wait for each.
DLCORE_INLINE void ask_for_rows(const float* c, int64_t c_row, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < cols; j += 16) __builtin_prefetch(c + r * c_row + j, 1);
}

#ifdef DLCORE_WIDE
inline constexpr int kTileRows = 14;  // 28 accumulators, 2 vectors of B, 1 element of A: 31 of 32 registers
#else
inline constexpr int kTileRows = 6;  // 12 + 2 + 1 of 16
#endif
inline constexpr int kPanel = 2 * W;  // columns of a packed panel

DLCORE_INLINE VF rectified(VF x) { return select(x < 0.0f, VF{}, x); }

// A stretch of the reduction: element (r, p) of A at a + r·a_row + p·a_step, row p of B at b + p·b_row.
struct Segment {
  const float* a;
  const float* b;
  int64_t length;
};

struct TileArgs {
  const Segment* segments;
  int64_t count;
  int64_t a_row, a_step, b_row;
  float* c;
  int64_t c_row;
  bool accumulate;              // start the chains at C instead of +0
  const float* bias = nullptr;  // a value a column, added to the finished chain
  bool relu = false;            // then negative sums become 0
  bool adds = false;            // accumulate: C is added to the finished chains instead
};

// C[rows, cols] (+)= the product, each element one chain of fma over the segments in order. 1 <= rows <= kTileRows; any
// cols.
void run_tile(int rows, int64_t cols, const TileArgs& args);

// Rows of memory that are wanted soon, asked for in groups of four lines between steps of k: a processor foresees what
// follows in memory, not the rows of the next tile.
struct Ahead {
  static constexpr int64_t kGroup = 64;  // floats
  const float* at = nullptr;
  int64_t left = 0, row_groups = 0, skip = 0;  // groups; skip: from the end of a row to the next one

  Ahead() = default;
  Ahead(const float* first, int64_t row, int64_t rows, int64_t width) : at(first) {
    if (row == width) {  // one run of memory
      width *= rows;
      rows = 1;
    }
    row_groups = ceil_div(width, kGroup);
    left = rows * row_groups;
    skip = row - row_groups * kGroup;
  }
  // Part i of `parts`: some of the rows or, of one run of memory, of its groups.
  Ahead part(int64_t i, int64_t parts) const {
    if (left == 0) return {};
    const int64_t rows = left / row_groups, all = rows > 1 ? rows : left, from = all * i / parts,
                  count = all * (i + 1) / parts - from;
    Ahead a = *this;
    a.at += from * (rows > 1 ? row_groups * kGroup + skip : kGroup);
    a.left = rows > 1 ? count * row_groups : count;
    if (rows == 1) a.row_groups = count;
    return a;
  }
};

// The same for several tiles, each by one panel, B as [k][kPanel] and A as [k][rows]: tiles below one another, a_next
// apart, by one panel, or beside one another by panels b_next apart.
struct PackedArgs {
  const float* a;
  int64_t a_next = 0;
  const float* b;
  int64_t b_next = 0;
  int64_t tiles = 1, k;
  const float* from = nullptr;  // where the chains begin or, with `adds`, what is added to them; nullptr: at +0
  int64_t from_row = 0;
  float* c;  // and where they end
  int64_t c_row;
  const float* bias = nullptr;
  bool relu = false, adds = false;
  int64_t a_row = 0;
  Ahead first = {}, then = {};
};
void run_packed(int rows, const PackedArgs& args);

// Likewise with A's rows a_row apart, each along k …
void run_in_place(int rows, const PackedArgs& args);

// … and by the first `cols` of kWide columns, B as [k][kWide]; what follows them in C, up to kWide, does not count.
inline constexpr int kWide = 32;
void run_wide(int rows, int64_t cols, PackedArgs args);

// Tiles below one another by one panel, the reduction in stretches so short that a tile should cost little besides: row
// r of tile i begins at a + i·a_tile + r·a_row of each segment, along k.
struct ShortArgs {  // at least one segment
  const Segment* segments;
  int64_t count, a_tile, tiles, a_row;
  float* c;
  int64_t c_row;
  bool accumulate;
};
void run_short(int rows, const ShortArgs& args);

// Widest stretch of columns that one pass of run_tile covers with so many rows: few rows need many columns to keep the
// multipliers busy.
int wide_panel(int rows);

// Packs a matrix given by rows (rows of it `row_stride` apart, `cols` contiguous elements each; rows <= width)
// transposed: column q goes to dst + row(q)·width, row(q) = (q % taps)·tap_rows + q / taps. Lanes from `rows` to
// `width` are zeroed. With width < W and one tap it writes up to W floats beyond the last row: a masked store costs far
// more than its overlap.
struct PackArgs {
  const float* src;
  int64_t row_stride;
  int64_t rows, cols;
  int64_t taps, tap_rows;
  float* dst;
  int64_t width;
};
void pack_transposed(const PackArgs& args);

// dst[c·dst_stride + r] = src[r·src_stride + c].
void transpose(const float* src, int64_t src_stride, int64_t rows, int64_t cols, float* dst, int64_t dst_stride);

// v[r][c] becomes v[c][r].
DLCORE_INLINE void transpose_registers(VF* v) {
#ifdef DLCORE_WIDE
  VF t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {  // v[i + j] holds column j of each 128-bit lane, of rows i … i + 3
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      v[i + 2 * h] =
          __builtin_shufflevector(t[i + h], t[i + h + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      v[i + 2 * h + 1] =
          __builtin_shufflevector(t[i + h], t[i + h + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const VF a = v[j], b = v[j + 4], c = v[j + 8], d = v[j + 12];
    // 128-bit lanes 0 and 2, or 1 and 3, of each operand: one instruction without a table of indices.
    const VF ab0 = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const VF ab1 = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    const VF cd0 = __builtin_shufflevector(c, d, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const VF cd1 = __builtin_shufflevector(c, d, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    v[j] = __builtin_shufflevector(ab0, cd0, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    v[j + 8] = __builtin_shufflevector(ab0, cd0, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    v[j + 4] = __builtin_shufflevector(ab1, cd1, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    v[j + 12] = __builtin_shufflevector(ab1, cd1, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
#else
  VF t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      v[i + 2 * h] = __builtin_shufflevector(t[i + h], t[i + h + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      v[i + 2 * h + 1] = __builtin_shufflevector(t[i + h], t[i + h + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const VF a = v[j], b = v[j + 4];
    v[j] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    v[j + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
#endif
}

// Up to W rows of up to W elements into registers, missing ones zero.
DLCORE_INLINE void load_block(const float* src, int64_t stride, int64_t rows, int64_t cols, VF* v) {
  if (rows >= W && cols >= W) {
#pragma GCC unroll 16
    for (int r = 0; r < W; ++r) v[r] = load(src + r * stride);
  } else {
    const int n = cols < W ? static_cast<int>(cols) : W;
#pragma GCC unroll 16
    for (int r = 0; r < W; ++r) v[r] = r < rows ? load_partial(src + r * stride, n) : VF{};
  }
}

#ifdef DLCORE_WIDE
inline constexpr int kFewRows = 8;
#else
inline constexpr int kFewRows = 4;
#endif
// C[rows, cols] = A·Bᵀ for at most kFewRows rows: B, (cols, k) with rows ldb apart, is transposed in registers and used
// at once, since so few rows would not repay packing.
struct FewRowsArgs {
  const float* a;
  int64_t a_row, a_col;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t c_row, cols, k;
  int64_t piece;  // steps of k after which the chains begin anew
};
void few_rows_by_transposed(int rows, const FewRowsArgs& args);

// The same with B as it is, (k, cols), for one or two rows and at most kLongRow columns.
inline constexpr int64_t kLongRow = 4096;
void few_rows_by_rows(int rows, const FewRowsArgs& args);

}  // namespace dlcore::DLCORE_ISA
