// Element-wise work as short programs over tiles that stay in the first-level cache: each step is a precompiled loop
// over one tile. A single element-wise op is a program of one step, which reads and writes its operands directly.
#pragma once
#include <stdint.h>

namespace dlcore {

// One loop over n elements. Bit k of `single`: operand k is one element for all; bits beyond the operands mean nothing.
// `out` may be an operand's memory. kWritePast: what is written is to go past the caches, where that can be.
inline constexpr unsigned kWritePast = 1u << 31;
using TileFn = void (*)(void* out, const void* const* in, unsigned single, int64_t n);

inline constexpr int kMaxTileOperands = 192, kMaxTileRank = 8;
inline constexpr int64_t kTileArena = 48 * 1024;  // bytes on the stack for temporaries and expanded inputs

struct TileStep {
  TileFn fn;
  int out;  // in the table of operands: inputs, then outputs, temporaries, literals
  int in[3];
  unsigned single;
  bool last = false;  // writes an output that no later step reads
};

struct TileInput {
  int size;                      // bytes an element
  bool full;                     // of the output's shape: read in place
  bool one;                      // a single element
  int64_t period;                // > 0: the input repeats after so many elements of the output; expanded once a chunk
  int64_t stride[kMaxTileRank];  // in elements, 0 where broadcast
  int64_t arena;                 // where it is expanded to, < 0: never
};

struct TilePlan {
  // The output's shape with axes merged where every input allows. `by_rows`: tiles stay within the last axis, and
  // inputs are read in place; otherwise (a short last axis) tiles are ranges of the whole, and broadcast inputs are
  // expanded.
  int rank;
  int64_t dim[kMaxTileRank];
  bool by_rows;
  bool past;  // outputs are written past the caches
  int64_t total, tile, cycles;
  int inputs, outputs, temps, literals, steps;
  const TileInput* input;
  const int* output_size;
  const int64_t* temp_arena;  // offset of each temporary
  const float* literal;
  const TileStep* step;
};

struct Epilogue;

struct TileTable {
  void (*run)(const TilePlan& plan, const void* const* in, void* const* out);
  // In parts, for an epilogue (kernels/cpu/epilogue.h): `expand` writes the repeating inputs once, kTileArena bytes.
  // Every input must be full, one element, or repeat along the last axis.
  void (*expand)(const TilePlan& plan, const void* const* in, char* expanded);
  void (*range)(const Epilogue& epilogue, int64_t first, int64_t count);
};

namespace avx2 {
extern const TileTable tile_table;
}
namespace avx512 {
extern const TileTable tile_table;
}

}  // namespace dlcore
