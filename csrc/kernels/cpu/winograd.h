// Convolution with stride 1 or 2 by Winograd's algorithm, float32, channels last: arguments and tables of the per-ISA
// code.
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
using Phase4 = Form<Axis<4, 2>, Axis<4, 2>, 2>;  // 3×3 or 4×4 with stride 2
}  // namespace winograd
#define DLCORE_WINOGRAD_FORMS(X) X(Square4) X(Square2) X(Square2of5) X(Row4) X(Row2of5) X(Phase4)
#define DLCORE_COUNT(F) +1
inline constexpr int kWinogradForms = DLCORE_WINOGRAD_FORMS(DLCORE_COUNT);
#undef DLCORE_COUNT

// Every second pixel along both axes. Stride 1 has phase (0, 0) alone.
struct WinogradPhase {
  int64_t h = 0, w = 0;
};

// in (n, d, h, w, groups·ci) → out (n, od, out_h, out_w, groups·co); the filter's corner lies pad_front before, pad_top
// above and pad_left left of the output's. A tile's outputs lie `dilation` apart, and so do its inputs: between them
// those of other tiles. Tiles are flat: along the depth each tap sees a slice of its own, whose channels are further
// channels of the products. So are those of the four phases of the inputs with stride 2 (step_in), each of which sees
// every second tap; in the gradient of the inputs these phases are of the outputs (step_out), and have filters of their
// own.
struct WinogradShape {
  int64_t n, h, w, groups, ci, co;  // ci and co of one group
  int64_t out_h, out_w, oh, ow;     // of the outputs; of one phase of them, which the tiles cover
  int64_t kernel_h, kernel_w;
  int64_t tile_h, tile_w;  // outputs of a tile along each axis
  int64_t dilation_h, dilation_w;
  int form;  // index into the tables
  int64_t d, od, kd, pad_front, dilation_d;
  int64_t step_in = 1, step_out = 1;
  int64_t pad_top[2], pad_left[2];    // by the phase, where inputs or outputs have two along the axis
  int64_t top[2] = {}, left[2] = {};  // where the outputs of a phase begin
  static int64_t phases(int64_t out, int64_t dilation) { return dilation < out ? dilation : out; }
  static int64_t count(int64_t out, int64_t tile, int64_t dilation) {
    if (out == 0) return 0;
    const int64_t of_a_phase = (out + dilation - 1) / dilation;
    return phases(out, dilation) * ((of_a_phase + tile - 1) / tile);
  }
  int64_t tiles_h() const { return count(oh, tile_h, dilation_h); }
  int64_t tiles_w() const { return count(ow, tile_w, dilation_w); }
  int64_t tiles() const { return n * od * tiles_h() * tiles_w(); }
  int64_t in_phases() const { return step_in * step_in; }
  int64_t out_phases() const { return step_out * step_out; }
  int64_t in_channels() const { return groups * ci; }
  int64_t out_channels() const { return groups * co; }
  // Of a group's products: taps of depth in ascending order, within these phases, within these channels. Groups follow
  // one another: they have neither taps of depth nor phases.
  int64_t depth() const { return kd * in_phases() * ci; }
  int64_t all_depth() const { return groups * depth(); }
  int64_t weights() const { return co * ci * kd * kernel_h * kernel_w; }  // of a group

  // In an order in which those with h = 0 and those with w = 0 are neighbours.
  static WinogradPhase phase(int64_t step, int64_t i) {
    constexpr WinogradPhase kPhases[4] = {{1, 0}, {0, 0}, {0, 1}, {1, 1}};
    return step == 1 ? WinogradPhase{} : kPhases[i];
  }
  // The filter of the second phase of an odd kernel has a tap less, and is 0 at the last point along that axis. What
  // is left of the products' depth there:
  struct Depth {
    int64_t from, to;
  };
  Depth depth_at(bool last_h, bool last_w, WinogradPhase out) const {
    const bool cut_h = last_h && kernel_h % 2 == 1, cut_w = last_w && kernel_w % 2 == 1;
    if (step_in == 2) return {cut_h ? ci : 0, (cut_w ? 2 : cut_h ? 3 : 4) * ci};
    return {0, step_out == 2 && ((cut_h && out.h == 1) || (cut_w && out.w == 1)) ? 0 : depth()};
  }
  template <class F>
  Depth depth_at(int64_t point, WinogradPhase out) const {
    return depth_at(point / F::W::P == F::H::P - 1, point % F::W::P == F::W::P - 1, out);
  }

  // Where the taps of a phase's filter stand in the kernel, turned by 180 degrees or not; -1: 0.
  template <class F>
  void find_taps(WinogradPhase phase, bool rotated, int64_t* at) const {
    const int64_t step = step_in * step_out;
    const auto along = [&](int64_t kernel, int64_t of_phase, int64_t i) {
      const int64_t taps = (kernel - of_phase + step - 1) / step;
      return i >= taps ? -1 : (rotated ? taps - 1 - i : i) * step + of_phase;
    };
    for (int64_t i = 0; i < F::kTaps; ++i) {
      const int64_t r = along(kernel_h, phase.h, i / F::W::R), q = along(kernel_w, phase.w, i % F::W::R);
      at[i] = r < 0 || q < 0 ? -1 : r * kernel_w + q;
    }
  }
};

struct WinogradTable {
  // weights (groups, co, ci, kd, taps) into Winograd's domain. rotated: weights (groups, ci, co, kd, taps) turned by
  // 180 degrees, as the gradient of the input needs them.
  size_t (*transformed_floats)(const WinogradShape& shape);
  void (*transform)(const WinogradShape& shape, const float* weights, bool rotated, float* transformed);
  // `transformed` stands ready, or is null: then the weights are transformed on the way.
  size_t (*workspace)(const WinogradShape& shape, bool transformed);
  void (*run)(const WinogradShape& shape, const float* in, const float* weights, bool rotated, const float* transformed,
              float* out, void* workspace, const Epilogue* epilogue);
  // dw (groups, co, ci, kd, taps) from the input and the gradient of the output.
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
