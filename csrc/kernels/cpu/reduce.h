// Reductions of f32 over axes: arguments and table of the vectorised kernels.
#pragma once
#include <stdint.h>

namespace dlcore {

inline constexpr int64_t kReduceBlock = 512;  // docs/ops.md, blocks512

struct ReduceAxes {
  int rank;
  int64_t size[8], stride[8];
};

struct ReduceArgs {
  const float* x;
  float* out;
  float* partial;  // columns: one row of `inner` a block and outer index, where there is more than one block
  ReduceAxes kept, reduced;
  int64_t outer;  // outputs without `inner`
  int64_t count;  // reduced elements without `tail`
  int64_t tail;   // rows: contiguous reduced elements
  int64_t inner;  // columns: contiguous kept elements
};

struct ArgArgs {
  const float* x;
  int64_t* out;
  int64_t outer, count, inner;
};

struct ReduceTable {
  // `rows`: the last axis is reduced; `columns`: it is kept.
  void (*sum_rows)(const ReduceArgs&);
  void (*sum_columns)(const ReduceArgs&);
  void (*max_rows)(const ReduceArgs&);
  void (*max_columns)(const ReduceArgs&);
  void (*min_rows)(const ReduceArgs&);
  void (*min_columns)(const ReduceArgs&);
  void (*argmax)(const ArgArgs&);
  void (*argmin)(const ArgArgs&);
};

namespace avx2 {
extern const ReduceTable reduce_table;
}
namespace avx512 {
extern const ReduceTable reduce_table;
}

}  // namespace dlcore
