// Convolution in float32, channels last: arguments and tables of the per-ISA code.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dlcore {

struct Epilogue;

// x (n, d, h, w, groups·ci), y (n, od, oh, ow, groups·co), weights (groups·co, ci, kd, kh, kw). A 2-d convolution is
// one of depth 1.
struct ConvShape {
  int64_t n = 0, d = 1, h = 1, w = 1, od = 1, oh = 1, ow = 1;
  int64_t groups = 1, ci = 0, co = 0;  // ci and co of one group
  int64_t kd = 1, kh = 1, kw = 1, stride_d = 1, stride_h = 1, stride_w = 1, pad_front = 0, pad_top = 0, pad_left = 0;
  int64_t dilation_d = 1, dilation_h = 1, dilation_w = 1;

  int64_t taps() const { return kd * kh * kw; }
  int64_t in_size() const { return d * h * w; }
  int64_t out_size() const { return od * oh * ow; }
};

// A tap of the kernel as seen by a phase: destination pixel i of each axis reads the source at i·source + offset, which
// may lie outside the image: zeros.
struct ConvTap {
  int64_t offset_d, offset_h, offset_w;
  int64_t index;  // (kd·KH + kh)·KW + kw
};

// Along one axis: the destination pixels first + i·step for i < count.
struct ConvAxis {
  int64_t first, step, count, source;
};

// A box of destination pixels that see the same taps. The forward convolution has one phase; backward-data one for each
// remainder of the position by the stride; and borders are phases of their own where leaving out the taps that only
// see padding pays.
struct ConvPhase {
  ConvAxis d, h, w;
  const ConvTap* taps;
  int64_t tap_count;
};

struct ConvMap {
  const ConvPhase* phases;
  int64_t count;
};

inline bool is_flat(const ConvShape& s) { return s.d == 1 && s.od == 1 && s.kd == 1; }
// Convolutions that go row by row and frame the image with zeros themselves: their borders are no phases of their own.
inline bool goes_by_rows(const ConvShape& s) {
  const bool depthwise = s.ci == 1 && s.co == 1;
  return s.groups > 1 ? depthwise || is_flat(s) : s.ci <= 3;
}

struct ConvTable {
  // workspace_* give bytes. The pointers are x, weights, y in the roles of the forward convolution, whose weights are
  // packed apart: once, where they never change.
  size_t (*packed_floats)(const ConvShape& shape);
  void (*pack)(const ConvShape& shape, const float* w, float* packed);
  size_t (*workspace_forward)(const ConvShape& shape);
  void (*forward)(const ConvShape& shape, const ConvMap& map, const float* x, const float* packed, float* y,
                  void* workspace, const Epilogue* epilogue);
  size_t (*workspace_data)(const ConvShape& shape);
  void (*backward_data)(const ConvShape& shape, const ConvMap& map, const float* dy, const float* w, float* dx,
                        void* workspace);
  size_t (*workspace_weight)(const ConvShape& shape);
  void (*backward_weight)(const ConvShape& shape, const float* x, const float* dy, float* dw, void* workspace);
  // n matrices (rows, cols) into (cols, rows): between channels-first and channels-last images.
  void (*transpose_images)(const float* src, float* dst, int64_t n, int64_t rows, int64_t cols);
};

namespace avx2 {
extern const ConvTable conv_table;
}
namespace avx512 {
extern const ConvTable conv_table;
}

}  // namespace dlcore
