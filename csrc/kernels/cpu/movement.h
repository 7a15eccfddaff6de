// Arguments of the movement kernels. Sizes are in elements, strides in bytes; axes are collapsed when bound.
#pragma once
#include <stdint.h>

namespace dlcore {

struct CopyArgs {
  // How the inner axes move: rows alike on both sides, one element repeated, any strides, or a 2-d transpose.
  enum Mode { kRows, kFill, kStrided, kTranspose } mode;
  int element;  // 1, 2, 4 or 8 bytes
  int rank;     // of the outer axes
  int64_t size[8], in_stride[8], out_stride[8];
  int64_t n, in_step, out_step;   // inner axis; kTranspose: the axis contiguous in the output (out_step = element)
  int64_t m, out_row;             // kTranspose: the axis contiguous in the input, and its stride in the output
  int64_t in_offset, out_offset;  // bytes
};

struct PadArgs {
  int element, rank;  // rank >= 1
  int64_t in_size[8], low[8], out_size[8];
  uint64_t pattern;  // the value repeated to 8 bytes
};

struct MovementTable {
  void (*copy)(const CopyArgs& args, const char* in, char* out);
  void (*pad)(const PadArgs& args, const char* in, char* out);  // no interior padding
  void (*fill)(uint64_t pattern, int64_t bytes, char* out);
};

namespace avx2 {
extern const MovementTable movement_table;
}
namespace avx512 {
extern const MovementTable movement_table;
}

}  // namespace dlcore
