// Geometry of a pooling call, for ref/ and cpu/. Plain: also included by the files built once per instruction set,
// hence the internal linkage.
#pragma once
#include <stdint.h>

namespace dlcore {

struct KernelSpec;

struct PoolArgs {
  int64_t n, c, h, w, oh, ow;  // image and output sizes
  int64_t kh, kw, sh, sw, dh, dw;
  int64_t top, bottom, left, right;
  bool nhwc, include_pad;
};

// max_pool2d, avg_pool2d and their backwards: checks types and attributes against each other; throws Error(Value).
// max_pool2d_backward and _gather have no window: only n, c, h, w, oh, ow and the layout are set.
PoolArgs pool_args(const KernelSpec& spec);

// The taps [first, last) of a window whose first tap is at `start` that fall on [0, size).
struct TapRange {
  int64_t first, last;
};
static inline TapRange taps(int64_t start, int64_t size, int64_t kernel, int64_t dilation) {
  const int64_t first = start < 0 ? (-start + dilation - 1) / dilation : 0;
  const int64_t end = size > start ? (size - start + dilation - 1) / dilation : 0;
  const int64_t last = end < kernel ? end : kernel;
  return {first < last ? first : last, last};
}

// How many elements an average's window counts along one axis: with the padding, but not beyond it, or without.
static inline int64_t counted(int64_t start, int64_t size, int64_t kernel, int64_t high, bool include_pad) {
  const int64_t limit = include_pad ? size + high : size;
  const int64_t end = start + kernel < limit ? start + kernel : limit;
  const int64_t begin = include_pad || start > 0 ? start : 0;
  return end > begin ? end - begin : 0;
}

}  // namespace dlcore
