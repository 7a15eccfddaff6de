// Arguments and entry points of attention; docs/ops.md has its meaning.
#pragma once
#include <stdint.h>

namespace dlcore {

struct AttentionArgs {  // q, out: heads x queries x size; k, v: heads x keys x size; batch and heads are one axis here
  const float *q, *k, *v;
  float *out, *lse;     // inputs of backward
  const float* dout;    // backward only
  float *dq, *dk, *dv;  // backward only
  int64_t heads, queries, keys, size;
  float scale;
  bool causal;
  // Added to the scores, or nullptr: rows of `keys`, apart by head of a batch of heads, batch and query; 0 where all
  // share.
  const float* mask;
  int64_t heads_a_batch, mask_batch, mask_head, mask_query;
  float* workspace;  // attention_workspace floats
  const float* mask_rows(int64_t head, int64_t query) const {
    return mask + head / heads_a_batch * mask_batch + head % heads_a_batch * mask_head + query * mask_query;
  }
};

inline constexpr int64_t kQueryBlock = 16;
inline constexpr int64_t kBackwardBlocks = 2;  // blocks of queries that backward adds to dk and dv at once

// The work is dealt to strands, each with its own scratch: at most 64, and fewer where long rows would take much
// memory.
constexpr int64_t attention_scratch(const AttentionArgs& a, bool backward) {  // floats a strand
  const int64_t mask = a.mask_query == 0 ? 0 : a.keys;
  return kQueryBlock * (backward ? kBackwardBlocks * 2 * a.keys + 3 * a.size + mask : a.keys + 2 * a.size + mask);
}
constexpr int64_t attention_tasks(const AttentionArgs& a, bool backward) {
  return a.heads * (backward ? 1 : (a.queries + kQueryBlock - 1) / kQueryBlock);
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
