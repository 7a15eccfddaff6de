// Attention as its kernels read it, both the plain op and the one that reads heads where they lie: sizes, and where the
// rows of each operand stand.
#pragma once
#include "kernels/registry.h"

namespace dlcore {

// The row of a query or key is contiguous and begins at offset + batch·b + head·h + row·t elements.
struct HeadRows {
  int64_t offset, batch, head, row;
};

struct AttentionSpec {
  int64_t batch, heads, queries, keys, width;
  double scale;
  bool causal;
  HeadRows q, k, v, out;
  HeadRows dout, dq, dk, dv;  // of the backward op alone
  int into[3];                // in which output dq, dk and dv lie
  int mask;                   // the input that is the mask, or -1
  HeadRows mask_rows;         // a stride of 0 where all share
};

AttentionSpec attention_spec(const KernelSpec& spec);

}  // namespace dlcore
