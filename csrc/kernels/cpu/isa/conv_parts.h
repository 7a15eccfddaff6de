// What the convolution's files share.
#pragma once
#include "kernels/cpu/conv.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {

// Forward and backward-data are one computation: each destination pixel sums, over the taps of its phase, products of a
// source pixel's channels with the tap's weights.
struct PointConv {
  int64_t n, source_d, source_h, source_w, dest_d, dest_h, dest_w;
  int64_t groups, source_channels, dest_channels;  // of one group
  int64_t taps;                                    // of the kernel
  const ConvMap* map;
  const float* source;
  const float* weights;  // packed: [group][panel][tap][source channel][kPanel], or [tap][group] when depthwise
  float* dest;
  const Epilogue* epilogue;  // of run_points
};
void run_points(const PointConv& conv);
void run_points_depthwise(const PointConv& conv);
// Few channels a group, so that a vector holds several groups; weights by pack_shuffled.
bool run_points_grouped(const PointConv& conv, bool shuffled);  // false: it does not fit, nothing is done
int64_t shuffled_floats(const ConvShape& s, int64_t source, int64_t dest);
void pack_shuffled(const ConvShape& s, bool backward, const float* w, float* packed);
// Backward-data to one to three channels; weights by pack_few.
bool data_to_few(const ConvShape& s);
bool fits_few(const PointConv& conv);
void run_points_few(const PointConv& conv);
// With a depth: bytes of `space`, 0 where that would be too much.
size_t workspace_few(const ConvShape& s);
void run_volume_few(const PointConv& conv, float* space);
void pack_few(const ConvShape& s, const float* w, float* packed);
// Backward-weight of a depthwise convolution, one row of gradients and one vector of channels.
bool has_depthwise_weight(const ConvShape& s);
void depthwise_weight_row(const ConvShape& s, const float* x, const float* dy, int64_t oh, int lanes, float* sums);
// Backward-weight of is_shuffled.
size_t workspace_weight_shuffled(const ConvShape& s);
void backward_weight_shuffled(const ConvShape& s, const float* x, const float* dy, float* sums, float* dw);

// 1×1 convolutions as products, conv_product.cpp.
bool is_product(const ConvShape& s);
GemmArgs product(const ConvShape& s, bool forward);  // forward, or backward-data
bool is_weight_product(const ConvShape& s);
size_t workspace_weight_product(const ConvShape& s);
void backward_weight_product(const ConvShape& s, const float* x, const float* dy, float* dw, void* workspace);

inline bool is_depthwise(const ConvShape& s) { return s.groups > 1 && s.ci == 1 && s.co == 1; }
inline bool is_grouped(const ConvShape& s) { return s.groups > 1 && is_flat(s); }
// A vector of at least two groups.
inline bool is_shuffled(const ConvShape& s) { return is_grouped(s) && !is_depthwise(s) && max64(s.ci, s.co) <= W / 2; }
// With so few input channels rows of taps are read as one stretch, from a padded copy of the image.
inline bool few_channels(const ConvShape& s) { return s.groups == 1 && s.ci < 16; }
inline int64_t padded_d(const ConvShape& s) {
  return max64(0, (s.od - 1) * s.stride_d + (s.kd - 1) * s.dilation_d + 1);
}
inline int64_t padded_h(const ConvShape& s) {
  return max64(0, (s.oh - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1);
}
inline int64_t padded_w(const ConvShape& s) {
  return max64(0, (s.ow - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1);
}
// Floats of a buffer, rounded up to a cache line.
inline int64_t lines(int64_t floats) { return (floats + 15) / 16 * 16; }
inline int64_t padded_floats(const ConvShape& s) {
  return lines(s.n * padded_d(s) * padded_h(s) * padded_w(s) * s.ci) + 16;
}

// The epilogue over everything, after a way that does not apply it to what it has just finished.
void apply_all(const Epilogue* epilogue, int64_t total);

// run_tile for at most W columns (all of a vector are read of B) and more rows.
#ifdef DLCORE_WIDE
inline constexpr int kSingleRows = 16;
#else
inline constexpr int kSingleRows = 12;
#endif
void run_single_tile(int rows, int cols, const TileArgs& args);

// Backward-weight of few channels: row r of A is a tap's channel, its element p of a line at line + offset[r] + p·step;
// B is that line's `length` gradients. C[rows, cols] (+)= the product over the lines in order.
#ifdef DLCORE_WIDE
inline constexpr int kFewTileRows = 10;
#else
inline constexpr int kFewTileRows = 6;
#endif
struct FewWeightTile {
  const float* const* lines;
  const int64_t* offset;
  const float* b;  // the lines' gradients follow each other
  int64_t count, length, step, b_row;
  float* c;
  int64_t c_row, rows, cols;
  bool accumulate;
};
void few_weight_tile(const FewWeightTile& t);

void pad_images(const ConvShape& s, const float* x, float* padded);

size_t workspace_weight(const ConvShape& s);
void backward_weight(const ConvShape& s, const float* x, const float* dy, float* dw, void* workspace);

}  // namespace dlcore::DLCORE_ISA
