// Reads the shapes of a convolution that the graph wants done by Winograd's algorithm, for ref/ and cpu/ alike.
#pragma once
#include "kernels/conv_spec.h"
#include "kernels/cpu/winograd.h"

namespace dlcore {

struct TilePlan;

// Of the gradients of a convolution, by the name of its op.
inline bool is_of_input(const KernelSpec& spec) { return spec.op.ends_with("_backward_data"); }
inline bool is_of_weight(const KernelSpec& spec) { return spec.op.ends_with("_backward_weight"); }

inline bool wants_winograd(const KernelSpec& spec) { return spec.attrs.text_or("algorithm", "direct") != "direct"; }

// Shape of the product in Winograd's domain: of the forward convolution and its weights' gradient, or with the images'
// roles exchanged, of the input's gradient.
inline WinogradShape winograd_shape(const KernelSpec& spec, const ConvShape& s) {
  struct Known {
    int64_t tile_h, tile_w, taps_h, taps_w, step;
  };
#define DLCORE_FORM(F) {winograd::F::H::M, winograd::F::W::M, winograd::F::H::R, winograd::F::W::R, winograd::F::kStep},
  constexpr Known kForms[kWinogradForms] = {DLCORE_WINOGRAD_FORMS(DLCORE_FORM)};
#undef DLCORE_FORM
  const int64_t tile = spec.attrs.text_or("algorithm", "direct") == "winograd4" ? 4 : 2, step = s.stride_w;
  const int64_t taps_h = (s.kh + step - 1) / step, taps_w = (s.kw + step - 1) / step;  // of the first phase
  int form = 0;
  while (form < kWinogradForms && !(kForms[form].tile_w == tile && kForms[form].taps_h == taps_h &&
                                    kForms[form].taps_w == taps_w && kForms[form].step == step))
    ++form;
  const bool plain = step == 1 && s.stride_h == 1 && s.stride_d == 1;
  const bool phases = step == 2 && s.stride_h == 2 && s.kd == 1 && s.dilation_h == 1 && s.dilation_w == 1;
  DLCORE_CHECK(form < kWinogradForms && (s.groups == 1 ? plain || phases : plain && s.kd == 1), Value, "[", spec.op,
               "] Winograd's algorithm has no form for this kernel, stride and groups");
  const bool of_input = is_of_input(spec);
  WinogradShape shape{.n = s.n,
                      .h = s.h,
                      .w = s.w,
                      .groups = s.groups,
                      .ci = s.ci,
                      .co = s.co,
                      .out_h = s.oh,
                      .out_w = s.ow,
                      .oh = s.oh,
                      .ow = s.ow,
                      .kernel_h = s.kh,
                      .kernel_w = s.kw,
                      .tile_h = kForms[form].tile_h,
                      .tile_w = kForms[form].tile_w,
                      .dilation_h = s.dilation_h,
                      .dilation_w = s.dilation_w,
                      .form = form,
                      .d = s.d,
                      .od = s.od,
                      .kd = s.kd,
                      .pad_front = s.pad_front,
                      .dilation_d = s.dilation_d,
                      .step_in = of_input ? 1 : step,
                      .step_out = of_input ? step : 1,
                      .pad_top = {s.pad_top, s.pad_top - 1},
                      .pad_left = {s.pad_left, s.pad_left - 1}};
  if (of_input) {
    shape.d = s.od, shape.h = s.oh, shape.w = s.ow, shape.od = s.d, shape.out_h = s.h, shape.out_w = s.w;
    shape.oh = (s.h + step - 1) / step, shape.ow = (s.w + step - 1) / step;
    shape.ci = s.co, shape.co = s.ci, shape.pad_front = (s.kd - 1) * s.dilation_d - s.pad_front;
    // Pixel step·j + phase - pad sees the taps phase + step·t from gradients j - t·dilation: the first from j = begin.
    const auto turn = [&](int64_t taps, int64_t pad, int64_t dilation, int64_t* reach, int64_t* first) {
      for (int64_t phase = 0; phase < step; ++phase) {
        const int64_t begin = (pad - phase + step - 1) / step, of_phase = (taps - phase + step - 1) / step;
        reach[phase] = (of_phase - 1) * dilation - begin;
        first[phase] = step * begin + phase - pad;
      }
    };
    turn(s.kh, s.pad_top, s.dilation_h, shape.pad_top, shape.top);
    turn(s.kw, s.pad_left, s.dilation_w, shape.pad_left, shape.left);
  }
  return shape;
}

// The bindings of each backend, called by those of its convolutions.
namespace ref {
BoundKernel bind_winograd(const KernelSpec& spec, const ConvSpec& conv);
}
namespace cpu {
// Channels last only; the epilogue may be null.
BoundKernel bind_winograd(const KernelSpec& spec, const ConvSpec& conv, std::shared_ptr<const TilePlan> epilogue);
}  // namespace cpu

}  // namespace dlcore
