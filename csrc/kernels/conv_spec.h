// Reads a convolution's shapes and attributes (docs/ops.md), for ref/ and cpu/ alike.
#pragma once
#include "base/error.h"
#include "kernels/cpu/conv.h"
#include "kernels/registry.h"

namespace dlcore {

struct ConvSpec {
  ConvShape shape;
  bool nchw;  // channels first
};

// x, w, y: the types in the roles of the forward convolution; conv3d's have an axis of depth before the height. Throws
// Error(Value) where they do not fit together.
inline ConvSpec read_conv(const KernelSpec& spec, const Shape& x, const Shape& w, const Shape& y) {
  const bool deep = spec.op.compare(0, 6, "conv3d") == 0;
  const size_t axes = deep ? 3 : 2, rank = axes + 2;
  const std::string first = deep ? "ncdhw" : "nchw", last = deep ? "ndhwc" : "nhwc";
  const std::string layout = spec.attrs.text_or("layout", first);
  DLCORE_CHECK(layout == first || layout == last, Value, "[", spec.op, "] layout must be ", first, " or ", last,
               ", got ", layout);
  DLCORE_CHECK(x.size() == rank && w.size() == rank && y.size() == rank, Value, "[", spec.op, "] needs rank ", rank,
               ", got images ", to_string(x), ", weights ", to_string(w), ", output ", to_string(y));
  const bool channels_first = layout == first;
  const size_t c = channels_first ? 1 : rank - 1, size = channels_first ? 2 : 1;
  const auto list = [&](const char* name, size_t count, int64_t missing) {
    const IntList found = spec.attrs.has(name) ? spec.attrs.ints(name) : IntList(count, missing);
    DLCORE_CHECK(found.size() == count, Value, "[", spec.op, "] needs ", count, " numbers of ", name, ", got ",
                 found.size());
    for (int64_t n : found)
      DLCORE_CHECK(n >= missing, Value, "[", spec.op, "] ", name, " must be at least ", missing, ", got ", n);
    return found;
  };
  const IntList stride = list("stride", axes, 1), dilation = list("dilation", axes, 1);
  const IntList padding = list("padding", 2 * axes, 0);
  const int64_t groups = spec.attrs.integer_or("groups", 1);
  DLCORE_CHECK(
      groups > 0 && x[c] % groups == 0 && w[0] % groups == 0 && x[c] / groups == w[1] && w[0] == y[c] && x[0] == y[0],
      Value, "[", spec.op, "] images ", to_string(x), ", weights ", to_string(w), " and output ", to_string(y),
      " do not fit together with ", groups, " groups");
  ConvShape s{.n = x[0], .groups = groups, .ci = w[1], .co = w[0] / groups};
  struct Axis {
    int64_t &in, &out, &taps, &step, &pad, &spread;
  };
  const Axis all[] = {{s.d, s.od, s.kd, s.stride_d, s.pad_front, s.dilation_d},
                      {s.h, s.oh, s.kh, s.stride_h, s.pad_top, s.dilation_h},
                      {s.w, s.ow, s.kw, s.stride_w, s.pad_left, s.dilation_w}};
  for (size_t i = 0; i < axes; ++i) {
    const Axis& a = all[3 - axes + i];
    a.in = x[size + i], a.out = y[size + i], a.taps = w[2 + i];
    a.step = stride[i], a.pad = padding[2 * i], a.spread = dilation[i];
    const int64_t room = a.in + a.pad + padding[2 * i + 1] - a.spread * (a.taps - 1) - 1;
    DLCORE_CHECK(a.out == (room < 0 || a.taps < 1 ? 0 : room / a.step + 1), Value, "[", spec.op, "] output ",
                 to_string(y), " is not what images ", to_string(x), " and weights ", to_string(w), " give");
  }
  return {s, channels_first};
}

}  // namespace dlcore
