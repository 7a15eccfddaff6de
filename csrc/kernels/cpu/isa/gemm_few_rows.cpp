#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {
namespace {

template <int R>
void few_rows(const FewRowsArgs& g) {
  for (int64_t j = 0; j < g.cols; j += W) {
    const float* b = g.b + j * g.ldb;
    VF acc[R] = {};
    int64_t p = 0;
    if (g.cols - j >= W) {
      for (; p + W <= g.k; p += W) {
        VF v[W];
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) v[i] = load(b + i * g.ldb + p);
        transpose_registers(v);
        const float* a = g.a + p * g.a_col;
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) {
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) acc[r] = fma(splat(a[r * g.a_row + i * g.a_col]), v[i], acc[r]);
        }
      }
    }
    for (; p < g.k; p += W) {
      VF v[W];
      load_block(b + p, g.ldb, g.cols - j, g.k - p, v);
      transpose_registers(v);
      float rows[W * W];  // read by a running index
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) store(rows + i * W, v[i]);
      for (int64_t i = 0; i < W && p + i < g.k; ++i) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
          acc[r] = fma(splat(g.a[r * g.a_row + (p + i) * g.a_col]), load(rows + i * W), acc[r]);
      }
    }
    const int lanes = g.cols - j < W ? static_cast<int>(g.cols - j) : W;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store_partial(g.c + r * g.c_row + j, acc[r], lanes);
  }
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
