// Convolution with stride 1 by Winograd's algorithm, float32, channels last: arguments and tables of the per-ISA code.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/winograd.h"

namespace dlcore {

struct Epilogue;

// The forms there are (kernels/winograd.h). Each table of them is made of this one list, for its order.
namespace winograd {
using Square4 = Form<Axis<4, 3>, Axis<4, 3>>;
using Square2 = Form<Axis<2, 3>, Axis<2, 3>>;
using Square2of5 = Form<Axis<2, 5>, Axis<2, 5>>;
using Row4 = Form<Axis<1, 1>, Axis<4, 3>>;  // signals
using Row2of5 = Form<Axis<1, 1>, Axis<2, 5>>;
}  // namespace winograd
#define DLCORE_WINOGRAD_FORMS(X) X(Square4) X(Square2) X(Square2of5) X(Row4) X(Row2of5)
#define DLCORE_COUNT(F) +1
inline constexpr int kWinogradForms = DLCORE_WINOGRAD_FORMS(DLCORE_COUNT);
#undef DLCORE_COUNT

// in (n, d, h, w, ci) → out (n, od, oh, ow, co); the filter's corner lies pad_front before, pad_top above and pad_left
// left of the output's. A tile's outputs lie `dilation` apart, and so do its inputs: between them those of other tiles.
// Tiles are flat: along the depth each tap sees a slice of its own, whose channels are further channels of the
// products.
struct WinogradShape {
  int64_t n, h, w, oh, ow, ci, co, pad_top, pad_left;
  int64_t tile_h, tile_w;  // outputs of a tile along each axis
  int64_t taps_h, taps_w;
  int64_t dilation_h, dilation_w;
  int form;  // index into the tables
  int64_t d = 1, od = 1, kd = 1, pad_front = 0, dilation_d = 1;
  static int64_t phases(int64_t out, int64_t dilation) { return dilation < out ? dilation : out; }
  static int64_t count(int64_t out, int64_t tile, int64_t dilation) {
    if (out == 0) return 0;
    const int64_t of_a_phase = (out + dilation - 1) / dilation;
    return phases(out, dilation) * ((of_a_phase + tile - 1) / tile);
  }
  int64_t tiles_h() const { return count(oh, tile_h, dilation_h); }
  int64_t tiles_w() const { return count(ow, tile_w, dilation_w); }
  int64_t tiles() const { return n * od * tiles_h() * tiles_w(); }
  int64_t depth() const { return kd * ci; }  // of the products: taps of depth in ascending order, channels within
};

struct WinogradTable {
  // weights (co, ci, kd, taps) into Winograd's domain. rotated: weights (ci, co, kd, taps) turned by 180 degrees, as
  // the gradient of the input needs them.
  size_t (*transformed_floats)(const WinogradShape& shape);
  void (*transform)(const WinogradShape& shape, const float* weights, bool rotated, float* transformed);
  // `transformed` stands ready, or is null: then the weights are transformed on the way.
  size_t (*workspace)(const WinogradShape& shape, bool transformed);
  void (*run)(const WinogradShape& shape, const float* in, const float* weights, bool rotated, const float* transformed,
              float* out, void* workspace, const Epilogue* epilogue);
  // dw (co, ci, kd, taps) from the input and the gradient of the output.
  size_t (*workspace_weight)(const WinogradShape& shape);
  void (*run_weight)(const WinogradShape& shape, const float* in, const float* dout, float* dw, void* workspace);
};

namespace avx2 {
extern const WinogradTable winograd_tables[kWinogradForms];
}
namespace avx512 {
extern const WinogradTable winograd_tables[kWinogradForms];
}

}  // namespace dlcore
