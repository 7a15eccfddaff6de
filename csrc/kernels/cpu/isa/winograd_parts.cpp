#include "kernels/cpu/isa/winograd_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

// Rows x Cols pixels, the dilation apart, from (top, left) of an image of (h, w, channels): nullptr outside.
template <int Rows, int Cols>
void find_pixels(const WinogradShape& s, const float* image, int64_t h, int64_t w, int64_t channels, int64_t top,
                 int64_t left, const float* (&pixels)[Rows * Cols]) {
  for (int r = 0; r < Rows; ++r) {
    for (int c = 0; c < Cols; ++c) {
      const int64_t y = top + r * s.dilation_h, x = left + c * s.dilation_w;
      const bool inside = y >= 0 && y < h && x >= 0 && x < w;
      pixels[r * Cols + c] = inside ? image + (y * w + x) * channels : nullptr;
    }
  }
}

template <int Pixels, int Points, class T>
DLCORE_INLINE void transform_pixels(const float* const (&pixels)[Pixels], int64_t channels, float* v,
                                    int64_t point_stride, T transform) {
  bool whole = true;
  for (const float* p : pixels) whole &= p != nullptr;
  for (int64_t c = 0; c < channels; c += W) {
    const int lanes = channels - c < W ? static_cast<int>(channels - c) : W;
    VF in[Pixels], out[Points];
    if (whole && lanes == W) {
#pragma GCC unroll 36
      for (int i = 0; i < Pixels; ++i) in[i] = load(pixels[i] + c);
    } else {
      for (int i = 0; i < Pixels; ++i) in[i] = pixels[i] ? load_some(pixels[i] + c, lanes) : VF{};
    }
    transform(in, out);
    if (lanes == W) {
#pragma GCC unroll 36
      for (int i = 0; i < Points; ++i) store(v + i * point_stride + c, out[i]);
    } else {
      for (int i = 0; i < Points; ++i) store_partial(v + i * point_stride + c, out[i], lanes);
    }
  }
}

// How many of `tile` outputs from `first` on, `dilation` apart, lie within `size`.
int inside(int64_t size, int64_t first, int64_t dilation, int tile) {
  const int64_t left = first < size ? (size - first + dilation - 1) / dilation : 0;
  return left < tile ? static_cast<int>(left) : tile;
}

}  // namespace

template <class F>
void transform_input(const WinogradShape& s, const float* in, int64_t tile, float* v, int64_t point_stride) {
  const TilePosition t = tile_position(s, tile);
  const int64_t image = t.slice / s.od, first = t.slice % s.od - s.pad_front;
  for (int64_t tap = 0; tap < s.kd; ++tap, v += s.ci) {
    const int64_t slice = first + tap * s.dilation_d;
    const bool inside = slice >= 0 && slice < s.d;
    const float* pixels[F::kPoints];
    find_pixels<F::H::P, F::W::P>(s, in + (image * s.d + (inside ? slice : 0)) * s.h * s.w * s.ci, inside ? s.h : 0,
                                  s.w, s.ci, t.top - s.pad_top, t.left - s.pad_left, pixels);
    transform_pixels<F::kPoints, F::kPoints>(pixels, s.ci, v, point_stride, [](const VF* d, VF* t) DLCORE_LAMBDA {
      winograd::input_tile<Arithmetic, F>(d, t);
    });
  }
}

template <class F>
void transform_gradient(const WinogradShape& s, const float* dout, int64_t tile, float* v, int64_t point_stride) {
  const TilePosition t = tile_position(s, tile);
  const float* pixels[F::kOutputs];
  find_pixels<F::H::M, F::W::M>(s, dout + t.slice * s.oh * s.ow * s.co, s.oh, s.ow, s.co, t.top, t.left, pixels);
  transform_pixels<F::kOutputs, F::kPoints>(pixels, s.co, v, point_stride, [](const VF* y, VF* v) DLCORE_LAMBDA {
    winograd::gradient_tile<Arithmetic, F>(y, v);
  });
}

template <class F>
void transform_output(const WinogradShape& s, const float* m, int64_t point_stride, int64_t tile, int64_t first,
                      int64_t count, float* out) {
  const TilePosition t = tile_position(s, tile);
  float* image = out + t.slice * s.oh * s.ow * s.co;
  const int rows = inside(s.oh, t.top, s.dilation_h, F::H::M), cols = inside(s.ow, t.left, s.dilation_w, F::W::M);
  for (int64_t c = 0; c < count; c += W) {
    const int lanes = count - c < W ? static_cast<int>(count - c) : W;
    VF in[F::kPoints], y[F::kOutputs];
#pragma GCC unroll 36
    for (int i = 0; i < F::kPoints; ++i) in[i] = load(m + i * point_stride + c);  // panels are padded to whole vectors
    winograd::output_tile<Arithmetic, F>(in, y);
    float* to = image + (t.top * s.ow + t.left) * s.co + first + c;
    for (int r = 0; r < rows; ++r)
      for (int q = 0; q < cols; ++q)
        store_some(to + (r * s.dilation_h * s.ow + q * s.dilation_w) * s.co, y[r * F::W::M + q], lanes);
  }
}

#define DLCORE_FORM(F)                                                                                                \
  template void transform_input<winograd::F>(const WinogradShape&, const float*, int64_t, float*, int64_t);           \
  template void transform_gradient<winograd::F>(const WinogradShape&, const float*, int64_t, float*, int64_t);        \
  template void transform_output<winograd::F>(const WinogradShape&, const float*, int64_t, int64_t, int64_t, int64_t, \
                                              float*);
DLCORE_WINOGRAD_FORMS(DLCORE_FORM)
#undef DLCORE_FORM

}  // namespace dlcore::DLCORE_ISA
