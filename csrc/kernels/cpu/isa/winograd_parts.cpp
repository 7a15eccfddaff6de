#include "kernels/cpu/isa/winograd_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

const float kZeros[W] = {};  // every pixel outside the image

// Where the tiles lie, one after the other.
class Walk {
 public:
  Walk(const WinogradShape& shape, int64_t tile)
      : s_(shape),
        across_(s_.tiles_w()),
        down_(s_.tiles_h()),
        phases_h_(WinogradShape::phases(s_.oh, s_.dilation_h)),
        phases_w_(WinogradShape::phases(s_.ow, s_.dilation_w)),
        slice_(tile / (across_ * down_)),
        i_(tile / across_ % down_),
        j_(tile % across_) {}

  TilePosition here() const {
    return {slice_, first(i_, phases_h_, s_.tile_h, s_.dilation_h), first(j_, phases_w_, s_.tile_w, s_.dilation_w)};
  }
  void step() {
    if (++j_ < across_) return;
    j_ = 0;
    if (++i_ < down_) return;
    i_ = 0;
    ++slice_;
  }

 private:
  // The first output of tile k along an axis.
  static int64_t first(int64_t k, int64_t phases, int64_t tile, int64_t dilation) {
    return phases == 1 ? k * tile * dilation : k / phases * tile * dilation + k % phases;
  }

  const WinogradShape& s_;
  int64_t across_, down_, phases_h_, phases_w_, slice_, i_, j_;
};

// Keeps what is made of x within a loop from being made before it: that many addresses do not fit the registers.
DLCORE_INLINE int64_t made_here(int64_t x) {
  __asm__("" : "+r"(x));
  return x;
}

// Pixels of a tile: by rows and columns where all are inside the image, else one by one.
template <int Rows, int Cols>
struct Pixels {
  static constexpr int kRows = Rows, kCols = Cols;
  const float* at[Rows * Cols];
  int64_t down, across;
};

// Images whose pixels, of a tile, lie `apart` from each other.
struct ImageShape {
  int64_t h, w, channels, apart_h, apart_w;
};

// Rows × Cols pixels from (top, left): nullptr outside. True if all are inside.
template <int Rows, int Cols>
DLCORE_INLINE bool find_pixels(const ImageShape& s, const float* image, int64_t top, int64_t left,
                               Pixels<Rows, Cols>& pixels) {
  const int64_t bottom = top + (Rows - 1) * s.apart_h, right = left + (Cols - 1) * s.apart_w;
  const int64_t down = s.apart_h * s.w * s.channels, across = s.apart_w * s.channels;
  const int64_t corner = (top * s.w + left) * s.channels;
  pixels.down = down, pixels.across = across;
  if (top >= 0 && bottom < s.h && left >= 0 && right < s.w) {
    pixels.at[0] = image + corner;
    return true;
  }
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
    const int64_t y = top + r * s.apart_h;
#pragma GCC unroll 6
    for (int c = 0; c < Cols; ++c) {
      const int64_t x = left + c * s.apart_w;
      const bool inside = y >= 0 && y < s.h && x >= 0 && x < s.w;
      pixels.at[r * Cols + c] = inside ? image + (corner + r * down + c * across) : nullptr;
    }
  }
  return false;
}

// How many pixels of an image of that width, `step` for each output, the next tile lies further on: to the right or,
// behind the last of a row, at the left of the next row.
template <class F>
int64_t step_ahead(const WinogradShape& s, const TilePosition& t, int64_t width, int64_t step) {
  const int64_t right = F::W::M * s.dilation_w;
  return step * (t.left + right < s.ow ? right : F::H::M * s.dilation_h * width - t.left);
}

// Transforms all channels, and asks for those of the next tile, `ahead` floats further on: tiles are short stretches of
// memory, which the processor does not foresee. The first `Known` of a row's Cols pixels are this tile's last.
template <int Known, bool Whole, class P, class T>
DLCORE_INLINE void transform_pixels(const P& pixels, int64_t channels, int64_t ahead, float* v, int64_t point_stride,
                                    T transform) {
  constexpr int kPixels = P::kRows * P::kCols, kPoints = T::kPoints;
  const float* corner = pixels.at[0];
  for (int64_t c = 0; c < channels; c += W) {
    const auto at = [&](int i) DLCORE_LAMBDA { return pixels.at[i] ? pixels.at[i] + c : kZeros; };
    const int64_t down = made_here(pixels.down), across = made_here(pixels.across), stride = made_here(point_stride);
    VF in[kPixels], out[kPoints];
    if (channels - c >= W) {
      const float* row = corner + c;
#pragma GCC unroll 6
      for (int r = 0; r < P::kRows; ++r, row += Whole ? down : 0) {
#pragma GCC unroll 6
        for (int q = 0; q < P::kCols; ++q) {
          const float* from = Whole ? row + q * across : at(r * P::kCols + q);
          if (q >= Known && c % 16 == 0) __builtin_prefetch(from + ahead);
          in[r * P::kCols + q] = load(from);
        }
      }
      transform(in, out);
      float* to = v + c;
#pragma GCC unroll 36
      for (int i = 0; i < kPoints; ++i, to += stride) store(to, out[i]);
    } else {
      const int lanes = static_cast<int>(channels - c);
      for (int i = 0; i < kPixels; ++i) {
        const float* from = Whole ? corner + c + i / P::kCols * down + i % P::kCols * across : at(i);
        in[i] = load_partial(from, lanes);
      }
      transform(in, out);
      for (int i = 0; i < kPoints; ++i) store_partial(v + i * point_stride + c, out[i], lanes);
    }
  }
}

// The tile whose corner is (top, left).
template <int Rows, int Cols, int Known, class T>
DLCORE_INLINE void transform_tile(const ImageShape& s, const float* image, int64_t top, int64_t left, int64_t ahead,
                                  float* v, int64_t point_stride, T transform) {
  Pixels<Rows, Cols> pixels;
  if (find_pixels(s, image, top, left, pixels))
    transform_pixels<Known, true>(pixels, s.channels, ahead, v, point_stride, transform);
  else
    transform_pixels<Known, false>(pixels, s.channels, ahead, v, point_stride, transform);
}

template <class F>
struct InputTile {
  static constexpr int kPoints = F::kPoints;
  DLCORE_INLINE void operator()(const VF* d, VF* t) const { winograd::input_tile<Arithmetic, F>(d, t); }
};
template <class F>
struct GradientTile {
  static constexpr int kPoints = F::kPoints;
  DLCORE_INLINE void operator()(const VF* y, VF* v) const { winograd::gradient_tile<Arithmetic, F>(y, v); }
};

// How many of `tile` outputs from `first` on, `apart` from each other, lie within `size`.
int inside(int64_t size, int64_t first, int64_t apart, int tile) {
  const int64_t left = first < size ? (size - first + apart - 1) / apart : 0;
  return left < tile ? static_cast<int>(left) : tile;
}

}  // namespace

TilePosition tile_position(const WinogradShape& s, int64_t tile) { return Walk(s, tile).here(); }

namespace {

// Rows of slices of `height`, of which a tile whose first output is `top` reaches to bottom(top).
template <class B>
Ahead rows_ahead(const WinogradShape& s, const float* at, int64_t first, int64_t count, int64_t height, int64_t row,
                 B bottom) {
  if (s.kd > 1 || s.dilation_h > 1 || s.dilation_w > 1 || first >= s.tiles() || count <= 0) return {};
  const auto after = [&](int64_t tile) {
    if (tile < 0) return int64_t{0};
    const TilePosition t = tile_position(s, tile);
    return t.slice * height + max64(0, min64(height, bottom(t.top)));
  };
  const int64_t from = after(first - 1), to = after(min64(first + count, s.tiles()) - 1);
  return {at + from * row, 0, 1, (to - from) * row};
}

}  // namespace

Ahead inputs_ahead(const WinogradShape& s, const float* in, int64_t first, int64_t count) {
  return rows_ahead(s, in, first, count, s.h, s.w * s.in_channels(),
                    [&](int64_t top) { return s.step_in * (top + s.tile_h - 1) + s.kernel_h - s.pad_top[0]; });
}

Ahead outputs_ahead(const WinogradShape& s, const float* out, int64_t first, int64_t count) {
  return rows_ahead(s, out, first, count, s.out_h, s.out_w * s.out_channels(),
                    [&](int64_t top) { return s.step_out * (top + s.tile_h); });
}

template <class F>
void transform_inputs(const WinogradShape& s, WinogradPhase of_out, const float* in, int64_t first, int64_t count,
                      float* v, int64_t point_stride) {
  const int64_t phases = s.in_phases();
  Walk walk(s, first);
  for (; count > 0; --count, walk.step()) {
    const TilePosition t = walk.here();
    const int64_t image = t.slice / s.od, front = t.slice % s.od - s.pad_front;
    const int64_t ahead = step_ahead<F>(s, t, s.w, s.step_in) * s.in_channels();
    for (int64_t tap = 0; tap < s.kd; ++tap) {
      const int64_t slice = front + tap * s.dilation_d;
      const bool there = slice >= 0 && slice < s.d;
      const ImageShape shape{there ? s.h : 0, s.w, s.in_channels(), s.step_in * s.dilation_h, s.step_in * s.dilation_w};
      const float* pixels = in + (image * s.d + (there ? slice : 0)) * s.h * s.w * s.in_channels();
      for (int64_t f = 0; f < phases; ++f, v += s.in_channels()) {
        const WinogradPhase of_in = s.phase(s.step_in, f);
        const int64_t top = s.step_in * t.top - s.pad_top[of_in.h + of_out.h],
                      left = s.step_in * t.left - s.pad_left[of_in.w + of_out.w];
        transform_tile<F::H::P, F::W::P, F::W::R - 1>(shape, pixels, top, left, ahead, v, point_stride, InputTile<F>());
      }
    }
  }
}

template <class F>
void transform_gradients(const WinogradShape& s, const float* dout, int64_t first, int64_t count, float* v,
                         int64_t point_stride) {
  const ImageShape shape{s.oh, s.ow, s.out_channels(), s.dilation_h, s.dilation_w};
  Walk walk(s, first);
  for (; count > 0; --count, walk.step(), v += s.out_channels()) {
    const TilePosition t = walk.here();
    transform_tile<F::H::M, F::W::M, 0>(shape, dout + t.slice * s.oh * s.ow * s.out_channels(), t.top, t.left,
                                        step_ahead<F>(s, t, s.ow, 1) * s.out_channels(), v, point_stride,
                                        GradientTile<F>());
  }
}

template <class F>
void transform_outputs(const WinogradShape& s, WinogradPhase of_out, const float* m, int64_t point_stride,
                       int64_t first, int64_t count, int64_t channel, int64_t channels, float* out) {
  constexpr int kRows = F::H::M, kCols = F::W::M;
  const int64_t all = s.out_channels(), row = s.out_w * all, apart_h = s.step_out * s.dilation_h,
                apart_w = s.step_out * s.dilation_w;
  Walk walk(s, first);
  for (; count > 0; --count, walk.step(), m += kChannels) {
    const TilePosition t = walk.here();
    const int64_t top = s.step_out * t.top + s.top[of_out.h], left = s.step_out * t.left + s.left[of_out.w];
    float* corner = out + ((t.slice * s.out_h + top) * s.out_w + left) * all + channel;
    const int rows = inside(s.out_h, top, apart_h, kRows), cols = inside(s.out_w, left, apart_w, kCols);
    const int64_t ahead = step_ahead<F>(s, t, s.out_w, s.step_out) * all;
    for (int64_t c = 0; c < channels; c += W) {
      VF in[F::kPoints], y[F::kOutputs];
      const int64_t down = made_here(apart_h * row), across = made_here(apart_w * all),
                    stride = made_here(point_stride);
      float* to = corner + c;
      const float* from = m + c;  // panels are padded to whole vectors
#pragma GCC unroll 36
      for (int i = 0; i < F::kPoints; ++i, from += stride) in[i] = load(from);
      winograd::output_tile<Arithmetic, F>(in, y);
      if (rows == kRows && cols == kCols && channels - c >= W) {
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
          for (int q = 0; q < kCols; ++q) {
            if (c % 16 == 0) __builtin_prefetch(to + q * across + ahead, 1);
            store(to + q * across, y[r * kCols + q]);
          }
          to += down;
        }
        continue;
      }
      const int lanes = channels - c < W ? static_cast<int>(channels - c) : W;
      for (int r = 0; r < rows; ++r)
        for (int q = 0; q < cols; ++q) store_partial(to + r * down + q * across, y[r * kCols + q], lanes);
    }
  }
}

#define DLCORE_FORM(F)                                                                                              \
  template void transform_inputs<winograd::F>(const WinogradShape&, WinogradPhase, const float*, int64_t, int64_t,  \
                                              float*, int64_t);                                                     \
  template void transform_gradients<winograd::F>(const WinogradShape&, const float*, int64_t, int64_t, float*,      \
                                                 int64_t);                                                          \
  template void transform_outputs<winograd::F>(const WinogradShape&, WinogradPhase, const float*, int64_t, int64_t, \
                                               int64_t, int64_t, int64_t, float*);
DLCORE_WINOGRAD_FORMS(DLCORE_FORM)
#undef DLCORE_FORM

}  // namespace dlcore::DLCORE_ISA
