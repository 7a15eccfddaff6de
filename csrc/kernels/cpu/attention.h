// Arguments and entry points of attention; docs/ops.md has its meaning.
#pragma once
#include <stdint.h>

namespace dlcore {

// Where the rows of an operand stand: `size` floats each, apart by batch, head of a batch, and query or key.
template <class T>
struct AttentionRows {
  T* data;
  int64_t batch, head, row;
};

struct AttentionArgs {  // batch and heads are one axis here
  AttentionRows<const float> q, k, v;
  AttentionRows<float> out;         // an input of backward
  float* lse;                       // heads x queries, likewise
  AttentionRows<const float> dout;  // backward only
  AttentionRows<float> dq, dk, dv;  // backward only
  int64_t heads, heads_a_batch, queries, keys, size;
  float scale;
  bool causal;
  AttentionRows<const float> mask;  // rows of `keys`, added to the scores; strides are 0 where all share; or nullptr
  float* workspace;                 // attention_workspace floats
};

inline constexpr int64_t kQueryBlock = 16;
inline constexpr int64_t kForwardBlocks = 2;   // blocks of queries that are a task
inline constexpr int64_t kBackwardBlocks = 2;  // and that backward adds to dk and dv at once

// The work is dealt to strands, each with its own scratch: at most 64, and fewer where long rows would take much
// memory.
// Backward goes over k, v, dk and dv again and again: rows that stand apart, which share few lines of the first-level
// cache, are copied together once a head.
constexpr bool attention_gathers(const AttentionArgs& a) {
  return a.k.row != a.size || a.v.row != a.size || a.dk.row != a.size || a.dv.row != a.size;
}
constexpr int64_t attention_scratch(const AttentionArgs& a, bool backward) {  // floats a strand
  const int64_t mask = a.mask.row == 0 ? 0 : a.keys;
  const int64_t gathered = backward && attention_gathers(a) ? 4 * a.keys * a.size : 0;
  return gathered + kQueryBlock * (backward ? kBackwardBlocks * (2 * a.keys + 3 * a.size) + mask
                                            : kForwardBlocks * (a.keys + 2 * a.size) + mask);
}
constexpr int64_t attention_tasks(const AttentionArgs& a, bool backward) {
  return a.heads * (backward ? 1 : (a.queries + kForwardBlocks * kQueryBlock - 1) / (kForwardBlocks * kQueryBlock));
}
constexpr int64_t attention_strands(const AttentionArgs& a, bool backward) {
  const int64_t fit = (int64_t{4} << 20) / (attention_scratch(a, backward) + 1);
  const int64_t most = fit < 16 ? 16 : fit > 64 ? 64 : fit, tasks = attention_tasks(a, backward);
  return tasks < most ? tasks : most;
}
constexpr int64_t attention_workspace(const AttentionArgs& a, bool backward) {
  return attention_strands(a, backward) * attention_scratch(a, backward);
}

struct AttentionTable {
  void (*forward)(const AttentionArgs&);
  void (*backward)(const AttentionArgs&);
};

namespace avx2 {
extern const AttentionTable attention_table;
}
namespace avx512 {
extern const AttentionTable attention_table;
}

}  // namespace dlcore
