// Tiles in and out of Winograd's domain, vectorised over channels.
#pragma once
#include "kernels/cpu/isa/gemm_micro.h"
#include "kernels/cpu/winograd.h"
#include "kernels/winograd.h"

namespace dlcore::DLCORE_ISA {

template <int M>
inline constexpr int kPoints = (M + 2) * (M + 2);  // elements of an input tile
inline constexpr int64_t kChannels = 32;           // output channels of a panel of transformed weights

struct Arithmetic {
  typedef VF V;
  static DLCORE_INLINE VF fma(VF a, VF b, VF c) { return DLCORE_ISA::fma(a, b, c); }
  static DLCORE_INLINE VF number(float x) { return splat(x); }
};
template <int M>
struct Input {
  DLCORE_INLINE void operator()(const VF* d, VF* t) const { winograd::Transforms<Arithmetic, M>::input(d, t); }
};
template <int M>
struct Output {
  DLCORE_INLINE void operator()(const VF* d, VF* t) const { winograd::Transforms<Arithmetic, M>::output(d, t); }
};
template <int M>
struct Filter {
  DLCORE_INLINE void operator()(const VF* d, VF* t) const { winograd::Transforms<Arithmetic, M>::filter(d, t); }
};
template <int M>
struct Gradient {
  DLCORE_INLINE void operator()(const VF* d, VF* t) const { winograd::Transforms<Arithmetic, M>::gradient(d, t); }
};
template <int M>
struct FilterGradient {
  DLCORE_INLINE void operator()(const VF* d, VF* t) const {
    winograd::Transforms<Arithmetic, M>::filter_gradient(d, t);
  }
};

struct TilePosition {
  int64_t image, top, left;  // of the output tile
};

DLCORE_INLINE TilePosition tile_position(const WinogradShape& s, int64_t tile) {
  const int64_t per_row = s.tiles_w(), per_image = per_row * s.tiles_h(), in_image = tile % per_image;
  return {tile / per_image, in_image / per_row * s.tile, in_image % per_row * s.tile};
}

DLCORE_INLINE VF load_some(const float* p, int n) { return n == W ? load(p) : load_partial(p, n); }
DLCORE_INLINE void store_some(float* p, VF v, int n) {
  if (n == W)
    store(p, v);
  else
    store_partial(p, v, n);
}

// v[point·point_stride + channel] of one input tile.
template <int M>
void transform_input(const WinogradShape& s, const float* in, int64_t tile, float* v, int64_t point_stride);

// Output channels [first, first + count) of one tile from m[point·point_stride + channel - first].
template <int M>
void transform_output(const WinogradShape& s, const float* m, int64_t point_stride, int64_t tile, int64_t first,
                      int64_t count, float* out);

// The gradient of one output tile, all its channels: v[point·point_stride + channel].
template <int M>
void transform_gradient(const WinogradShape& s, const float* dout, int64_t tile, float* v, int64_t point_stride);

}  // namespace dlcore::DLCORE_ISA
