// Arguments of the indexing kernels. Indices have been checked with first_bad before any of them runs.
#pragma once
#include <stdint.h>

namespace dlcore {

struct RowIndexArgs {
  int64_t size, count, row;  // indices into `size` rows; take: row in bytes, scatter_add: in floats
  bool wide;                 // i64 indices, else i32
};

struct AxisIndexArgs {
  int64_t outer, size, count, inner;
  int element;  // bytes (take_along_axis)
  bool wide;
};

struct IndexTable {
  // Position of the first index outside [low, size), or n.
  int64_t (*first_bad)(const void* indices, bool wide, int64_t n, int64_t low, int64_t size);
  void (*take)(const RowIndexArgs& args, const char* x, const void* indices, char* out);
  void (*scatter_add)(const RowIndexArgs& args, const float* dy, const void* indices, float* out);
  void (*take_along_axis)(const AxisIndexArgs& args, const char* x, const void* indices, char* out);
  void (*scatter_along_axis)(const AxisIndexArgs& args, const float* dy, const void* indices, float* out);
};

namespace avx2 {
extern const IndexTable index_table;
}
namespace avx512 {
extern const IndexTable index_table;
}

}  // namespace dlcore
