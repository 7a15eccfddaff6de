#include "kernels/cpu/isa/winograd_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

// The rows x cols pixels from (top, left) of an image of (h, w, channels): nullptr outside.
template <int N>
void find_pixels(const float* image, int64_t h, int64_t w, int64_t channels, int64_t top, int64_t left,
                 const float* (&pixels)[N * N]) {
  for (int r = 0; r < N; ++r) {
    for (int c = 0; c < N; ++c) {
      const int64_t y = top + r, x = left + c;
      const bool inside = y >= 0 && y < h && x >= 0 && x < w;
      pixels[r * N + c] = inside ? image + (y * w + x) * channels : nullptr;
    }
  }
}

template <int N, int M, class F>
DLCORE_INLINE void transform_pixels(const float* const (&pixels)[N * N], int64_t channels, float* v,
                                    int64_t point_stride, F transform) {
  bool whole = true;
  for (const float* p : pixels) whole &= p != nullptr;
  for (int64_t c = 0; c < channels; c += W) {
    const int lanes = channels - c < W ? static_cast<int>(channels - c) : W;
    VF in[N * N], out[kPoints<M>];
    if (whole && lanes == W) {
#pragma GCC unroll 36
      for (int i = 0; i < N * N; ++i) in[i] = load(pixels[i] + c);
    } else {
      for (int i = 0; i < N * N; ++i) in[i] = pixels[i] ? load_some(pixels[i] + c, lanes) : VF{};
    }
    winograd::both_ways<N, M + 2>(in, out, transform);
    if (lanes == W) {
#pragma GCC unroll 36
      for (int i = 0; i < kPoints<M>; ++i) store(v + i * point_stride + c, out[i]);
    } else {
      for (int i = 0; i < kPoints<M>; ++i) store_partial(v + i * point_stride + c, out[i], lanes);
    }
  }
}

}  // namespace

template <int M>
void transform_input(const WinogradShape& s, const float* in, int64_t tile, float* v, int64_t point_stride) {
  const TilePosition t = tile_position(s, tile);
  const float* pixels[kPoints<M>];
  find_pixels<M + 2>(in + t.image * s.h * s.w * s.ci, s.h, s.w, s.ci, t.top - s.pad_top, t.left - s.pad_left, pixels);
  transform_pixels<M + 2, M>(pixels, s.ci, v, point_stride, Input<M>());
}

template <int M>
void transform_gradient(const WinogradShape& s, const float* dout, int64_t tile, float* v, int64_t point_stride) {
  const TilePosition t = tile_position(s, tile);
  const float* pixels[M * M];
  find_pixels<M>(dout + t.image * s.oh * s.ow * s.co, s.oh, s.ow, s.co, t.top, t.left, pixels);
  transform_pixels<M, M>(pixels, s.co, v, point_stride, Gradient<M>());
}

template <int M>
void transform_output(const WinogradShape& s, const float* m, int64_t point_stride, int64_t tile, int64_t first,
                      int64_t count, float* out) {
  const TilePosition t = tile_position(s, tile);
  float* image = out + t.image * s.oh * s.ow * s.co;
  const int rows = s.oh - t.top < M ? static_cast<int>(s.oh - t.top) : M;
  const int cols = s.ow - t.left < M ? static_cast<int>(s.ow - t.left) : M;
  for (int64_t c = 0; c < count; c += W) {
    const int lanes = count - c < W ? static_cast<int>(count - c) : W;
    VF in[kPoints<M>], y[M * M];
#pragma GCC unroll 36
    for (int i = 0; i < kPoints<M>; ++i) in[i] = load(m + i * point_stride + c);  // panels are padded to whole vectors
    winograd::both_ways<M + 2, M>(in, y, Output<M>());
    float* to = image + (t.top * s.ow + t.left) * s.co + first + c;
    for (int r = 0; r < rows; ++r)
      for (int q = 0; q < cols; ++q) store_some(to + (r * s.ow + q) * s.co, y[r * M + q], lanes);
  }
}

template void transform_input<4>(const WinogradShape&, const float*, int64_t, float*, int64_t);
template void transform_gradient<4>(const WinogradShape&, const float*, int64_t, float*, int64_t);
template void transform_output<4>(const WinogradShape&, const float*, int64_t, int64_t, int64_t, int64_t, float*);
template void transform_input<2>(const WinogradShape&, const float*, int64_t, float*, int64_t);
template void transform_gradient<2>(const WinogradShape&, const float*, int64_t, float*, int64_t);
template void transform_output<2>(const WinogradShape&, const float*, int64_t, int64_t, int64_t, int64_t, float*);

}  // namespace dlcore::DLCORE_ISA
