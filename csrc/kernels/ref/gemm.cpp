// matmul as docs/ops.md says it: for each output chains of fma, begun anew after a number of steps.
#include <cmath>
#include <vector>

#include "base/error.h"
#include "kernels/chain.h"
#include "kernels/convert.h"
#include "kernels/registry.h"

namespace dlcore {

void register_ref_gemm(Registry& registry);

namespace {

// Where matrix number `index` of the output's batch begins in an input, whose leading axes broadcast.
int64_t matrix_offset(const Shape& input, const Shape& output, int64_t index) {
  const int leading = static_cast<int>(output.size()) - 2, own = static_cast<int>(input.size()) - 2;
  int64_t stride = input[static_cast<size_t>(own)] * input[static_cast<size_t>(own) + 1], offset = 0;
  for (int axis = leading - 1, mine = own - 1; axis >= 0; --axis, --mine) {
    const int64_t size = output[static_cast<size_t>(axis)], position = index % size;
    index /= size;
    if (mine < 0) continue;
    const int64_t extent = input[static_cast<size_t>(mine)];
    if (extent != 1) offset += position * stride;
    stride *= extent;
  }
  return offset;
}

// T: of the elements; Sum: of the chain. Fewer bits are widened, and rounded once at the end.
template <class T, class Sum>
void matmul(const KernelSpec& spec, const RunArgs& r) {
  const Shape &a_shape = spec.inputs[0].shape, &b_shape = spec.inputs[1].shape, &c_shape = spec.outputs[0].shape;
  const bool ta = spec.attrs.integer_or("transpose_a", 0) != 0, tb = spec.attrs.integer_or("transpose_b", 0) != 0;
  const int64_t m = c_shape[c_shape.size() - 2], n = c_shape[c_shape.size() - 1];
  const int64_t k = ta ? a_shape[a_shape.size() - 2] : a_shape[a_shape.size() - 1];
  if (numel(c_shape) == 0) return;
  const int64_t piece = chain_length(k);
  const int64_t batch = numel(c_shape) / (m * n);
  for (int64_t i = 0; i < batch; ++i) {
    const T* a = static_cast<const T*>(r.in[0]) + matrix_offset(a_shape, c_shape, i);
    const T* b = static_cast<const T*>(r.in[1]) + matrix_offset(b_shape, c_shape, i);
    T* c = static_cast<T*>(r.out[0]) + i * m * n;
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t col = 0; col < n; ++col) {
        Sum sum = 0, chain = 0;
        for (int64_t p = 0; p < k; ++p) {
          if (p % piece == 0 && p > 0) {
            sum = p == piece ? chain : sum + chain;
            chain = 0;
          }
          const T x = ta ? a[p * m + row] : a[row * k + p];
          const T y = tb ? b[col * k + p] : b[p * n + col];
          chain = std::fma(convert<Sum>(x), convert<Sum>(y), chain);
        }
        sum = k <= piece ? chain : sum + chain;
        c[row * n + col] = convert<T>(sum);
      }
    }
  }
}

BoundKernel bind_matmul(const KernelSpec& spec) {
  const DType dtype = spec.inputs[0].dtype;
  if (dtype != DType::F32 && dtype != DType::F64 && dtype != DType::BF16) return {};
  const Shape &a = spec.inputs[0].shape, &b = spec.inputs[1].shape;
  DLCORE_CHECK(a.size() >= 2 && b.size() >= 2, Value, "[matmul] needs matrices, got ", to_string(a), " @ ",
               to_string(b));
  BoundKernel bound;
  bound.run = [spec, dtype](const RunArgs& r) {
    if (dtype == DType::F32) return matmul<float, float>(spec, r);
    if (dtype == DType::F64) return matmul<double, double>(spec, r);
    matmul<BFloat16, float>(spec, r);
  };
  return bound;
}

}  // namespace

void register_ref_gemm(Registry& registry) { registry.add("ref", 0, "matmul", bind_matmul); }

}  // namespace dlcore
