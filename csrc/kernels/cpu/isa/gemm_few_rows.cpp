#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {
namespace {

// v[c] = element c of each of W rows.
DLCORE_INLINE void load_transposed(const float* src, int64_t stride, VF* v) {
#ifdef DLCORE_WIDE
#pragma GCC unroll 16
  for (int r = 0; r < W; ++r) v[r] = load(src + r * stride);
  transpose_registers(v);
#else
  // Four rows in the lower halves and four in the upper: loads do a third of the shuffles.
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    VF u[4], t[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) u[i] = load_halves(src + i * stride + 4 * h, src + (i + 4) * stride + 4 * h);
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
}

// W columns of C from j on, for R rows: acc[r] goes on over elements [p, p + n) of W rows of B.
template <int R>
DLCORE_INLINE void block(const FewRowsArgs& g, const float* b, int64_t p, VF (&acc)[R]) {
  VF v[W];
  load_transposed(b + p, g.ldb, v);
  const float* a = g.a + p * g.a_col;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[r] = fma(splat(a[r * g.a_row + i * g.a_col]), v[i], acc[r]);
  }
}

// The end of k, or fewer than W columns.
template <int R>
void rest(const FewRowsArgs& g, const float* b, int64_t cols, int64_t p, int64_t end, VF (&acc)[R]) {
  for (; p < end; p += W) {
    VF v[W];
    load_block(b + p, g.ldb, cols, end - p, v);
    transpose_registers(v);
    float rows[W * W];  // read by a running index
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) store(rows + i * W, v[i]);
    for (int64_t i = 0; i < W && p + i < end; ++i) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r] = fma(splat(g.a[r * g.a_row + (p + i) * g.a_col]), load(rows + i * W), acc[r]);
    }
  }
}

// R rows by Groups groups of W columns side by side: a chain of fma alone would wait for itself. A line of B is used up
// before the next. One piece of k, from p to `end`, added to C but for the first.
template <int R, int Groups>
void stretch(const FewRowsArgs& g, int64_t j, int64_t cols, int64_t p, int64_t end) {
  constexpr int kLine = 16;
  VF acc[Groups][R] = {};
  const float* b = g.b + j * g.ldb;
  const bool adds = p > 0;
  if (cols >= Groups * W) {
    for (; p + kLine <= end; p += kLine) {
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
    rest<R>(g, b + h * W * g.ldb, left, p, end, acc[h]);
    const int lanes = left < W ? static_cast<int>(left) : W;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      float* at = g.c + r * g.c_row + j + h * W;
      store_partial(at, adds ? load_partial(at, lanes) + acc[h][r] : acc[h][r], lanes);
    }
  }
}

template <int R, int Groups>
void stretches(const FewRowsArgs& g, int64_t j, int64_t cols) {
  for_pieces(g.k, g.piece, [&](int64_t p, int64_t end) DLCORE_LAMBDA { stretch<R, Groups>(g, j, cols, p, end); });
}

#ifdef DLCORE_WIDE
template <int R>
void few_rows(const FewRowsArgs& g) {
  constexpr int kGroups = R <= 2 ? 2 : 1;
  int64_t j = 0;
  // Rows a multiple of 4 KB apart share the lines of the first-level cache: two groups would drive each other out.
  for (; g.ldb % 1024 != 0 && j + kGroups * W <= g.cols; j += kGroups * W) stretches<R, kGroups>(g, j, kGroups * W);
  for (; j < g.cols; j += W) stretches<R, 1>(g, j, min64(W, g.cols - j));
}
#else
// R rows by G groups of W columns from j on: a stretch of k of each group is transposed into the cache, then all chains
// go over it side by side.
template <int R, int G>
void staged(const FewRowsArgs& g, int64_t j, int64_t first, int64_t end) {
  constexpr int64_t kStretch = 32;
  float t[G][kStretch * W + 16];
  VF acc[G][R] = {};
  const float* b = g.b + j * g.ldb;
  for (int64_t p = first; p < end; p += kStretch) {
    const int64_t n = min64(kStretch, end - p);
    for (int h = 0; h < G; ++h) {
      const float* from = b + h * W * g.ldb + p;
      int64_t q = 0;
      for (; q + W <= n; q += W) {
        VF v[W];
        load_transposed(from + q, g.ldb, v);
        if (q % 16 == 0) {  // rows are not followed for long enough to be foreseen
#pragma GCC unroll 8
          for (int i = 0; i < W; ++i) __builtin_prefetch(from + i * g.ldb + q + kStretch, 0, 2);
        }
#pragma GCC unroll 8
        for (int i = 0; i < W; ++i) store(t[h] + (q + i) * W, v[i]);
      }
      if (q < n) {
        VF v[W];
        load_block(from + q, g.ldb, W, n - q, v);
        transpose_registers(v);
#pragma GCC unroll 8
        for (int i = 0; i < W; ++i) store(t[h] + (q + i) * W, v[i]);
      }
    }
    const float* a = g.a + p * g.a_col;
    for (int64_t i = 0; i < n; ++i, a += g.a_col) {
      VF x[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) x[r] = splat(a[r * g.a_row]);
#pragma GCC unroll 8
      for (int h = 0; h < G; ++h) {
        const VF v = load(t[h] + i * W);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) accumulate(acc[h][r], x[r], v);
      }
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < G; ++h) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      float* at = g.c + r * g.c_row + j + h * W;
      store(at, first > 0 ? load(at) + acc[h][r] : acc[h][r]);
    }
  }
}

template <int R, int G>
void staged(const FewRowsArgs& g, int64_t j) {
  for_pieces(g.k, g.piece, [&](int64_t p, int64_t end) DLCORE_LAMBDA { staged<R, G>(g, j, p, end); });
}

template <int R>
void few_rows(const FewRowsArgs& g) {
  constexpr int kGroups = R <= 2 ? 4 : 2;
  int64_t j = 0;
  for (; j + kGroups * W <= g.cols; j += kGroups * W) staged<R, kGroups>(g, j);
  if constexpr (kGroups > 4)
    for (; j + 4 * W <= g.cols; j += 4 * W) staged<R, 4>(g, j);
  for (; j + 2 * W <= g.cols; j += 2 * W) staged<R, 2>(g, j);
  for (; j < g.cols; j += W) stretches<R, 1>(g, j, min64(W, g.cols - j));
}
#endif

// C[R, cols] = A·B: several rows of B at a time, from one end to the other, so that the processor foresees what comes.
template <int R>
void by_rows(const FewRowsArgs& g) {
  constexpr int kRows = 8 / R;
  float chains[R * kLongRow];  // of a piece of k that is not the first
  float* to = g.c;
  int64_t to_row = g.c_row;
  const auto pass = [&](int64_t p, auto rows) DLCORE_LAMBDA {
    constexpr int K = rows;
    const float *a = g.a + p * g.a_col, *b = g.b + p * g.ldb;
    VF x[R][K];
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i) x[r][i] = splat(a[r * g.a_row + i * g.a_col]);
    }
    const int64_t ldb = g.ldb, row = to_row;
    float* c = to;
    const auto column = [&](int64_t j, auto get, auto put) DLCORE_LAMBDA {
      VF acc[R];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) acc[r] = get(c + r * row + j);
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i) {
        const VF v = get(b + i * ldb + j);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) acc[r] = fma(x[r][i], v, acc[r]);
      }
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) put(c + r * row + j, acc[r]);
    };
    int64_t j = 0;
    for (; j + W <= g.cols; j += W)
      column(
          j, [](const float* at) DLCORE_LAMBDA { return load(at); },
          [](float* at, VF v) DLCORE_LAMBDA { store(at, v); });
    const int rest = static_cast<int>(g.cols - j);
    if (rest)
      column(
          j, [&](const float* at) DLCORE_LAMBDA { return load_partial(at, rest); },
          [&](float* at, VF v) DLCORE_LAMBDA { store_partial(at, v, rest); });
  };
  for_pieces(g.k, g.piece, [&](int64_t first, int64_t end) DLCORE_LAMBDA {
    if (first > 0) to = chains, to_row = g.cols;
    for (int r = 0; r < R; ++r)
      for (int64_t j = 0; j < g.cols; ++j) to[r * to_row + j] = 0.0f;
    int64_t p = first;
    for (; p + kRows <= end; p += kRows) pass(p, Constant<kRows>());
    for (; p < end; ++p) pass(p, Constant<1>());
    for (int r = 0; first > 0 && r < R; ++r)
      for (int64_t j = 0; j < g.cols; ++j) g.c[r * g.c_row + j] += chains[r * to_row + j];
  });
}

}  // namespace

void few_rows_by_rows(int rows, const FewRowsArgs& args) { (rows == 1 ? by_rows<1> : by_rows<2>)(args); }

void few_rows_by_transposed(int rows, const FewRowsArgs& args) {
  constexpr void (*kRows[kFewRows])(const FewRowsArgs&) = {
      few_rows<1>, few_rows<2>, few_rows<3>, few_rows<4>,
#ifdef DLCORE_WIDE
      few_rows<5>, few_rows<6>, few_rows<7>, few_rows<8>,
#endif
  };
  kRows[rows - 1](args);
}

}  // namespace dlcore::DLCORE_ISA
