// The pooling kernels' function table. Column arithmetic is 32-bit: bind_pool.cpp keeps larger images from them.
#pragma once
#include "kernels/pool_spec.h"

namespace dlcore {

struct PoolTable {
  void (*max)(const PoolArgs& args, const float* x, float* y, int32_t* index);
  // Returns the position of the first index outside [-1, h·w), or -1 when all were in range.
  int64_t (*max_backward)(const PoolArgs& args, const float* dy, const int32_t* index, float* dx);
  void (*max_gather)(const PoolArgs& args, const float* x, const int32_t* index, float* y);  // indices checked
  void (*avg)(const PoolArgs& args, const float* x, float* y);
  void (*avg_backward)(const PoolArgs& args, const float* dy, float* dx);
};

namespace avx2 {
extern const PoolTable pool_table;
}
namespace avx512 {
extern const PoolTable pool_table;
}

}  // namespace dlcore
