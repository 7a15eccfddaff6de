// The tile program that a product's kernel applies to its result while that is still in the cache.
#pragma once
#include "kernels/cpu/tile.h"

namespace dlcore {

struct Epilogue {
  // Elements [first, first + count) of the result, which the kernel has finished and will not touch again. Ranges may
  // come in any order and from any thread.
  void (*range)(const Epilogue& epilogue, int64_t first, int64_t count);
  const TilePlan* plan;
  const void* const* in;  // in[0] is out[0]
  void* const* out;
  const char* expanded;  // repeating inputs, kTileArena bytes
};

}  // namespace dlcore
