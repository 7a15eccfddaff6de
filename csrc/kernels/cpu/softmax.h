// Arguments and entry points of the softmax and cross-entropy kernels; docs/ops.md has their meaning.
#pragma once
#include <stdint.h>

namespace dlcore {

struct RowsArgs {  // rows x width
  const float* x;
  const float* dy;  // backward only; x is then y
  float* out;
  int64_t rows, width;
  bool past = false;  // log_softmax: out may be written past the caches, is not x, and its rows are whole lines
};

struct CrossEntropyArgs {  // rows x classes
  const float* x;
  const int64_t* labels;  // each in [0, classes), or ignore_index (checked by the caller)
  const float* lse;       // backward only
  const float* dloss;     // backward only
  float* out;             // loss, or dlogits
  float* lse_out;         // forward only
  int64_t rows, classes;
  float smoothing;
  bool ignores;
  int64_t ignore_index;
};

struct SoftmaxTable {
  void (*softmax)(const RowsArgs&);
  void (*log_softmax)(const RowsArgs&);
  void (*softmax_backward)(const RowsArgs&);
  void (*log_softmax_backward)(const RowsArgs&);
  void (*cross_entropy)(const CrossEntropyArgs&);
  void (*cross_entropy_backward)(const CrossEntropyArgs&);
};

namespace avx2 {
extern const SoftmaxTable softmax_table;
}
namespace avx512 {
extern const SoftmaxTable softmax_table;
}

}  // namespace dlcore
