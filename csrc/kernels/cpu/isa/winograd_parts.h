// Tiles in and out of Winograd's domain, vectorised over channels.
#pragma once
#include "kernels/cpu/isa/gemm_micro.h"
#include "kernels/cpu/winograd.h"
#include "kernels/winograd.h"

namespace dlcore::DLCORE_ISA {

inline constexpr int64_t kChannels = 32;  // output channels of a panel of transformed weights

struct Arithmetic {
  typedef VF V;
  static DLCORE_INLINE VF fma(VF a, VF b, VF c) { return DLCORE_ISA::fma(a, b, c); }
  static DLCORE_INLINE VF number(float x) { return splat(x); }
};
struct TilePosition {
  int64_t slice, top, left;  // of the output tile
};

DLCORE_INLINE TilePosition tile_position(const WinogradShape& s, int64_t tile) {
  const int64_t across = s.tiles_w(), per_image = across * s.tiles_h(), in_image = tile % per_image;
  const int64_t phases_h = WinogradShape::phases(s.oh, s.dilation_h),
                phases_w = WinogradShape::phases(s.ow, s.dilation_w);
  const int64_t i = in_image / across, j = in_image % across;
  return {tile / per_image, i / phases_h * s.tile_h * s.dilation_h + i % phases_h,
          j / phases_w * s.tile_w * s.dilation_w + j % phases_w};
}

DLCORE_INLINE VF load_some(const float* p, int n) { return n == W ? load(p) : load_partial(p, n); }
DLCORE_INLINE void store_some(float* p, VF v, int n) {
  if (n == W)
    store(p, v);
  else
    store_partial(p, v, n);
}

// v[point·point_stride + channel] of one input tile, all s.depth() channels of its products.
template <class F>
void transform_input(const WinogradShape& s, const float* in, int64_t tile, float* v, int64_t point_stride);

// Output channels [first, first + count) of one tile from m[point·point_stride + channel - first].
template <class F>
void transform_output(const WinogradShape& s, const float* m, int64_t point_stride, int64_t tile, int64_t first,
                      int64_t count, float* out);

// The gradient of one output tile, all its channels: v[point·point_stride + channel].
template <class F>
void transform_gradient(const WinogradShape& s, const float* dout, int64_t tile, float* v, int64_t point_stride);

}  // namespace dlcore::DLCORE_ISA
