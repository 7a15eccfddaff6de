// Reads the shapes of a convolution that the graph wants done by Winograd's algorithm, for ref/ and cpu/ alike.
#pragma once
#include "kernels/conv_spec.h"
#include "kernels/cpu/winograd.h"

namespace dlcore {

struct TilePlan;

// Outputs of a tile along each axis, 0 for direct sums.
inline int64_t winograd_tile(const KernelSpec& spec) {
  const std::string algorithm = spec.attrs.text_or("algorithm", "direct");
  return algorithm == "winograd4" ? 4 : algorithm == "winograd2" ? 2 : 0;
}
inline bool wants_winograd(const KernelSpec& spec) { return winograd_tile(spec) != 0; }

// Shape of the product in Winograd's domain: of the forward convolution and its weights' gradient, or with the images'
// roles exchanged, of the input's gradient.
inline WinogradShape winograd_shape(const KernelSpec& spec, const ConvShape& s, bool of_input) {
  DLCORE_CHECK(s.groups == 1 && s.kh == 3 && s.kw == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 &&
                   s.dilation_w == 1,
               Value, "[", spec.op, "] Winograd's algorithm needs a 3x3 kernel with stride, dilation and groups 1");
  const int64_t tile = winograd_tile(spec);
  if (of_input) return {s.n, s.oh, s.ow, s.h, s.w, s.co, s.ci, 2 - s.pad_top, 2 - s.pad_left, tile};
  return {s.n, s.h, s.w, s.oh, s.ow, s.ci, s.co, s.pad_top, s.pad_left, tile};
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
