#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {
namespace {

// W columns of C from j on, for R rows: acc[r] goes on over elements [p, p + n) of W rows of B.
template <int R>
DLCORE_INLINE void block(const FewRowsArgs& g, const float* b, int64_t p, VF (&acc)[R]) {
  VF v[W];
#ifdef __AVX512F__
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) v[i] = load(b + i * g.ldb + p);
  transpose_registers(v);
#else
  // Four rows in the lower halves and four in the upper: loads do a third of the shuffles.
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    VF u[4], t[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) u[i] = load_halves(b + i * g.ldb + p + 4 * h, b + (i + 4) * g.ldb + p + 4 * h);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      t[2 * i] = __builtin_shufflevector(u[2 * i], u[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
      t[2 * i + 1] = __builtin_shufflevector(u[2 * i], u[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      v[4 * h + 2 * i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      v[4 * h + 2 * i + 1] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
#endif
  const float* a = g.a + p * g.a_col;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[r] = fma(splat(a[r * g.a_row + i * g.a_col]), v[i], acc[r]);
  }
}

// The end of k, or fewer than W columns.
template <int R>
void rest(const FewRowsArgs& g, const float* b, int64_t cols, int64_t p, VF (&acc)[R]) {
  for (; p < g.k; p += W) {
    VF v[W];
    load_block(b + p, g.ldb, cols, g.k - p, v);
    transpose_registers(v);
    float rows[W * W];  // read by a running index
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) store(rows + i * W, v[i]);
    for (int64_t i = 0; i < W && p + i < g.k; ++i) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r] = fma(splat(g.a[r * g.a_row + (p + i) * g.a_col]), load(rows + i * W), acc[r]);
    }
  }
}

// R rows by Groups groups of W columns side by side: a chain of fma alone would wait for itself. A line of B is used up
// before the next.
template <int R, int Groups>
void stretch(const FewRowsArgs& g, int64_t j, int64_t cols) {
  constexpr int kLine = 16;
  VF acc[Groups][R] = {};
  const float* b = g.b + j * g.ldb;
  int64_t p = 0;
  if (cols >= Groups * W) {
    for (; p + kLine <= g.k; p += kLine) {
#pragma GCC unroll 4
      for (int h = 0; h < Groups; ++h) {
#pragma GCC unroll 2
        for (int q = 0; q < kLine; q += W) block<R>(g, b + h * W * g.ldb, p + q, acc[h]);
      }
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < Groups; ++h) {
    const int64_t left = cols - h * W;
    if (left <= 0) return;
    rest<R>(g, b + h * W * g.ldb, left, p, acc[h]);
    const int lanes = left < W ? static_cast<int>(left) : W;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store_partial(g.c + r * g.c_row + j + h * W, acc[h][r], lanes);
  }
}

template <int R>
void few_rows(const FewRowsArgs& g) {
  constexpr int kGroups = R <= 2 ? 2 : 1;
  int64_t j = 0;
  // Rows a multiple of 4 KB apart share the lines of the first-level cache: two groups would drive each other out.
  for (; g.ldb % 1024 != 0 && j + kGroups * W <= g.cols; j += kGroups * W) stretch<R, kGroups>(g, j, kGroups * W);
  for (; j < g.cols; j += W) stretch<R, 1>(g, j, min64(W, g.cols - j));
}

}  // namespace

void few_rows_by_transposed(int rows, const FewRowsArgs& args) {
  constexpr void (*kRows[kFewRows])(const FewRowsArgs&) = {
      few_rows<1>, few_rows<2>, few_rows<3>, few_rows<4>,
#ifdef __AVX512F__
      few_rows<5>, few_rows<6>, few_rows<7>, few_rows<8>,
#endif
  };
  kRows[rows - 1](args);
}

}  // namespace dlcore::DLCORE_ISA
