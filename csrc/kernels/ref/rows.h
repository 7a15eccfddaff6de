// What the naive row kernels share: the two orders of summation of docs/ops.md, and the choice of the element type.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/registry.h"

namespace dlcore::ref {

template <class T>
class Lanes16 {
 public:
  void add(int64_t i, T value) { lane_[i % 16] += value; }
  void fma(int64_t i, T a, T b) { lane_[i % 16] = std::fma(a, b, lane_[i % 16]); }
  T sum() {
    for (int step = 8; step > 0; step /= 2)
      for (int l = 0; l < step; ++l) lane_[l] += lane_[l + step];
    return lane_[0];
  }

 private:
  T lane_[16] = {};
};

// Call with elements in ascending order.
template <class T>
class Blocks512 {
 public:
  void add(T value) { next(block_ + value); }
  void fma(T a, T b) { next(std::fma(a, b, block_)); }
  T sum() const { return count_ == 0 ? total_ : first_ ? block_ : total_ + block_; }

 private:
  void next(T value) {
    block_ = value;
    if (++count_ < 512) return;
    total_ = sum();
    first_ = false;
    block_ = T(0);
    count_ = 0;
  }
  T total_ = T(0), block_ = T(0);
  int count_ = 0;
  bool first_ = true;
};

// f(T()) for the float type of the first input; an unserved one gives no kernel.
template <class F>
BoundKernel for_float(const KernelSpec& spec, F f) {
  if (spec.inputs[0].dtype == DType::F32) return f(float());
  if (spec.inputs[0].dtype == DType::F64) return f(double());
  return {};
}

template <class T>
const T* input(const RunArgs& args, int i) {
  return static_cast<const T*>(args.in[i]);
}
template <class T>
T* output(const RunArgs& args, int i) {
  return static_cast<T*>(args.out[i]);
}

inline int64_t last_size(const Shape& shape) { return shape.empty() ? 1 : shape.back(); }
// The product of the axes in [from, to).
inline int64_t product(const Shape& shape, size_t from, size_t to) {
  int64_t n = 1;
  for (size_t i = from; i < to && i < shape.size(); ++i) n *= shape[i];
  return n;
}

}  // namespace dlcore::ref
