// Matrix products in float32: arguments and tables of the per-ISA code.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dlcore {

struct Epilogue;

// C[i] = A[i]·B[i] for `batch` products, each C contiguous (m, n). A's element (r, p) stands at a + a_offset[i] +
// r·a_row + p·a_col; one of the two strides is 1. B's element (p, c) at b + b_offset[i] + p·ldb + c, or + c·ldb + p
// when b_transposed.
struct GemmArgs {
  int64_t m = 0, n = 0, k = 0;
  int64_t a_row = 0, a_col = 0;
  int64_t ldb = 0;
  int64_t chain = 0;  // steps of k after which each output's chain begins anew, its sum being added; 0: one chain
  bool b_transposed = false;
  int64_t batch = 1;
  const int64_t* a_offset = nullptr;  // batch entries each
  const int64_t* b_offset = nullptr;
  const float* a = nullptr;
  const float* b = nullptr;
  float* c = nullptr;
  void* workspace = nullptr;
  const float* ready = nullptr;  // B in panels, as GemmTable::pack makes them; then `b` is not read
  const float* bias = nullptr;   // a value a column, added to C; with relu, negative sums become 0
  bool relu = false;
  const Epilogue* epilogue = nullptr;  // applied to C's elements, counted from c, as they are finished

  bool anew() const { return chain > 0 && chain < k; }
  int64_t piece() const { return anew() ? chain : k; }
};

struct GemmTable {
  // One B that never changes (batch 1), packed ahead: panels of panel() columns, [panel][k][column].
  int64_t (*panel)(const GemmArgs& args);
  void (*pack)(const GemmArgs& args, float* ready);
  size_t (*workspace)(const GemmArgs& args);  // bytes; looks at the shape only
  void (*run)(const GemmArgs& args);
};

// The same in float64: the shape from GemmArgs, whose pointers do not count.
struct Gemm64Table {
  size_t (*workspace)(const GemmArgs& shape);
  void (*run)(const GemmArgs& shape, const double* a, const double* b, double* c, void* workspace);
};

namespace avx2 {
extern const GemmTable gemm_table;
extern const Gemm64Table gemm64_table;
}  // namespace avx2
namespace avx512 {
extern const GemmTable gemm_table;
extern const Gemm64Table gemm64_table;
}  // namespace avx512

}  // namespace dlcore
