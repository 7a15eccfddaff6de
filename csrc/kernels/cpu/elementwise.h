// The loops that tile programs are made of, by op and type.
#pragma once
#include "kernels/cpu/tile.h"

namespace dlcore {

struct TileOp {
  const char* name;
  TileFn fn;
};

// Lists end with a null name. `numbers`: f32 in, f32 out, truth as 1.0 and 0.0 (tile programs); `tests`: truth as bool.
struct ElementwiseTable {
  const TileOp *f32_numbers, *f32_tests;
  TileFn where4;  // of 4-byte elements by a bool condition
  // y may be x, if nothing is written past the caches.
  void (*gelu_with_slope)(const float* x, float* y, float* slope, int64_t n, bool past);
};

// Types other than f32. where1 and where8 are by the size of the elements.
struct IntegerTable {
  const TileOp *i32, *i64, *i32_tests, *i64_tests, *u8_tests, *logic;
  TileFn where1, where8;
  TileFn cast[5][5];  // [from][to] of f32, bool, u8, i32, i64
};

namespace avx2 {
extern const ElementwiseTable elementwise_table;
extern const IntegerTable integer_table;
}  // namespace avx2
namespace avx512 {
extern const ElementwiseTable elementwise_table;
extern const IntegerTable integer_table;
}  // namespace avx512

}  // namespace dlcore
