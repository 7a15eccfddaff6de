// Reads a convolution's shapes and attributes (docs/ops.md), for ref/ and cpu/ alike.
#pragma once
#include "base/error.h"
#include "kernels/cpu/conv.h"
#include "kernels/registry.h"

namespace dlcore {

struct ConvSpec {
  ConvShape shape;
  bool nchw;
};

// x, w, y: the types in the roles of the forward convolution. Throws Error(Value) where they do not fit together.
inline ConvSpec read_conv(const KernelSpec& spec, const Shape& x, const Shape& w, const Shape& y) {
  const std::string layout = spec.attrs.text_or("layout", "nchw");
  DLCORE_CHECK(layout == "nchw" || layout == "nhwc", Value, "[", spec.op, "] layout must be nchw or nhwc, got ",
               layout);
  DLCORE_CHECK(x.size() == 4 && w.size() == 4 && y.size() == 4, Value, "[", spec.op, "] needs rank 4, got images ",
               to_string(x), ", weights ", to_string(w), ", output ", to_string(y));
  const bool nchw = layout == "nchw";
  const size_t c = nchw ? 1 : 3, h = nchw ? 2 : 1, v = nchw ? 3 : 2;
  const auto pair = [&](const char* name) { return spec.attrs.has(name) ? spec.attrs.ints(name) : IntList{1, 1}; };
  const IntList stride = pair("stride"), dilation = pair("dilation");
  const IntList padding = spec.attrs.has("padding") ? spec.attrs.ints("padding") : IntList{0, 0, 0, 0};
  const int64_t groups = spec.attrs.integer_or("groups", 1);
  DLCORE_CHECK(stride.size() == 2 && dilation.size() == 2 && padding.size() == 4, Value, "[", spec.op,
               "] needs two strides, two dilations and four paddings");
  for (int64_t s : stride) DLCORE_CHECK(s > 0, Value, "[", spec.op, "] stride must be positive, got ", s);
  for (int64_t d : dilation) DLCORE_CHECK(d > 0, Value, "[", spec.op, "] dilation must be positive, got ", d);
  for (int64_t p : padding) DLCORE_CHECK(p >= 0, Value, "[", spec.op, "] padding must not be negative, got ", p);
  DLCORE_CHECK(
      groups > 0 && x[c] % groups == 0 && w[0] % groups == 0 && x[c] / groups == w[1] && w[0] == y[c] && x[0] == y[0],
      Value, "[", spec.op, "] images ", to_string(x), ", weights ", to_string(w), " and output ", to_string(y),
      " do not fit together with ", groups, " groups");
  const auto output = [](int64_t size, int64_t low, int64_t high, int64_t taps, int64_t step, int64_t spread) {
    const int64_t room = size + low + high - spread * (taps - 1) - 1;
    return room < 0 || taps < 1 ? int64_t{0} : room / step + 1;
  };
  DLCORE_CHECK(y[h] == output(x[h], padding[0], padding[1], w[2], stride[0], dilation[0]) &&
                   y[v] == output(x[v], padding[2], padding[3], w[3], stride[1], dilation[1]),
               Value, "[", spec.op, "] output ", to_string(y), " is not what images ", to_string(x), " and weights ",
               to_string(w), " give");
  return {{.n = x[0],
           .h = x[h],
           .w = x[v],
           .oh = y[h],
           .ow = y[v],
           .groups = groups,
           .ci = w[1],
           .co = w[0] / groups,
           .kh = w[2],
           .kw = w[3],
           .stride_h = stride[0],
           .stride_w = stride[1],
           .pad_top = padding[0],
           .pad_left = padding[2],
           .dilation_h = dilation[0],
           .dilation_w = dilation[1]},
          nchw};
}

}  // namespace dlcore
