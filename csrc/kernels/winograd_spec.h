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
    int64_t tile_h, tile_w, taps_h, taps_w;
  };
#define DLCORE_FORM(F) {winograd::F::H::M, winograd::F::W::M, winograd::F::H::R, winograd::F::W::R},
  constexpr Known kForms[kWinogradForms] = {DLCORE_WINOGRAD_FORMS(DLCORE_FORM)};
#undef DLCORE_FORM
  const int64_t tile = spec.attrs.text_or("algorithm", "direct") == "winograd4" ? 4 : 2;
  int form = 0;
  while (form < kWinogradForms &&
         !(kForms[form].tile_w == tile && kForms[form].taps_h == s.kh && kForms[form].taps_w == s.kw))
    ++form;
  DLCORE_CHECK(form < kWinogradForms && s.groups == 1 && s.stride_d == 1 && s.stride_h == 1 && s.stride_w == 1, Value,
               "[", spec.op, "] Winograd's algorithm has no form for this kernel, or stride and groups are not 1");
  const Known& known = kForms[form];
  const int64_t reach_h = (s.kh - 1) * s.dilation_h, reach_w = (s.kw - 1) * s.dilation_w;
  WinogradShape shape{s.n,          s.h,        s.w,          s.oh,         s.ow,         s.ci,         s.co,
                      s.pad_top,    s.pad_left, known.tile_h, known.tile_w, known.taps_h, known.taps_w, s.dilation_h,
                      s.dilation_w, form,       s.d,          s.od,         s.kd,         s.pad_front,  s.dilation_d};
  if (is_of_input(spec)) {
    shape.d = s.od, shape.h = s.oh, shape.w = s.ow, shape.od = s.d, shape.oh = s.h, shape.ow = s.w;
    shape.ci = s.co, shape.co = s.ci, shape.pad_front = (s.kd - 1) * s.dilation_d - s.pad_front;
    shape.pad_top = reach_h - s.pad_top, shape.pad_left = reach_w - s.pad_left;
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
