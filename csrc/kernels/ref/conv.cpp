// The convolutions as docs/ops.md says them. A tap in the padding contributes an fma with zero, as in the vectorised
// kernels.
#include <algorithm>
#include <cmath>

#include "kernels/winograd_spec.h"

namespace dlcore {

void register_ref_conv(Registry& registry);

namespace {

// Strides of an image tensor in either layout.
struct Strides {
  int64_t n, d, h, w, c;
};
Strides strides_of(bool nchw, int64_t d, int64_t h, int64_t w, int64_t c) {
  return nchw ? Strides{c * d * h * w, h * w, w, 1, d * h * w} : Strides{d * h * w * c, h * w * c, w * c, c, 1};
}

struct Call {
  ConvShape s;
  Strides x, y;
};
Call call_of(const ConvSpec& spec) {
  const ConvShape& s = spec.shape;
  return {s, strides_of(spec.nchw, s.d, s.h, s.w, s.groups * s.ci),
          strides_of(spec.nchw, s.od, s.oh, s.ow, s.groups * s.co)};
}

bool inside(int64_t i, int64_t size) { return i >= 0 && i < size; }

// Calls body(position, …) for all positions of a box, the last axis fastest.
template <class Body>
void each(int64_t d, int64_t h, int64_t w, Body&& body) {
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = 0; j < h; ++j)
      for (int64_t k = 0; k < w; ++k) body(i, j, k);
}

template <class T>
void forward(const Call& call, const T* x, const T* w, T* y) {
  const ConvShape& s = call.s;
  for (int64_t n = 0; n < s.n; ++n) {
    each(s.od, s.oh, s.ow, [&](int64_t od, int64_t oh, int64_t ow) {
      for (int64_t o = 0; o < s.groups * s.co; ++o) {
        const int64_t first = o / s.co * s.ci;
        T sum = 0;
        each(s.kd, s.kh, s.kw, [&](int64_t kd, int64_t kh, int64_t kw) {
          const int64_t d = od * s.stride_d + kd * s.dilation_d - s.pad_front;
          const int64_t h = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
          const int64_t v = ow * s.stride_w + kw * s.dilation_w - s.pad_left;
          const bool image = inside(d, s.d) && inside(h, s.h) && inside(v, s.w);
          const T* from = x + n * call.x.n + d * call.x.d + h * call.x.h + v * call.x.w + first * call.x.c;
          for (int64_t c = 0; c < s.ci; ++c) {
            const T value = image ? from[c * call.x.c] : T(0);
            sum = std::fma(value, w[(((o * s.ci + c) * s.kd + kd) * s.kh + kh) * s.kw + kw], sum);
          }
        });
        y[n * call.y.n + od * call.y.d + oh * call.y.h + ow * call.y.w + o * call.y.c] = sum;
      }
    });
  }
}

template <class T>
void backward_data(const Call& call, const T* dy, const T* w, T* dx) {
  const ConvShape& s = call.s;
  for (int64_t n = 0; n < s.n; ++n) {
    each(s.d, s.h, s.w, [&](int64_t d, int64_t h, int64_t v) {
      for (int64_t i = 0; i < s.groups * s.ci; ++i) {
        const int64_t first = i / s.ci * s.co;
        T sum = 0;
        each(s.kd, s.kh, s.kw, [&](int64_t kd, int64_t kh, int64_t kw) {
          const int64_t from_d = d + s.pad_front - kd * s.dilation_d, from_h = h + s.pad_top - kh * s.dilation_h,
                        from_w = v + s.pad_left - kw * s.dilation_w;
          if (from_d % s.stride_d != 0 || from_h % s.stride_h != 0 || from_w % s.stride_w != 0) return;
          const int64_t od = from_d / s.stride_d, oh = from_h / s.stride_h, ow = from_w / s.stride_w;
          const bool image = inside(od, s.od) && inside(oh, s.oh) && inside(ow, s.ow);
          const T* from = dy + n * call.y.n + od * call.y.d + oh * call.y.h + ow * call.y.w;
          for (int64_t o = first; o < first + s.co; ++o) {
            const T value = image ? from[o * call.y.c] : T(0);
            sum = std::fma(value, w[(((o * s.ci + i % s.ci) * s.kd + kd) * s.kh + kh) * s.kw + kw], sum);
          }
        });
        dx[n * call.x.n + d * call.x.d + h * call.x.h + v * call.x.w + i * call.x.c] = sum;
      }
    });
  }
}

template <class T>
void backward_weight(const Call& call, const T* x, const T* dy, T* dw) {
  const ConvShape& s = call.s;
  const int64_t images = s.n ? (s.n + std::min<int64_t>(s.n, 8) - 1) / std::min<int64_t>(s.n, 8) : 0;
  for (int64_t o = 0; o < s.groups * s.co; ++o) {
    for (int64_t i = 0; i < s.ci; ++i) {
      const int64_t c = o / s.co * s.ci + i;
      each(s.kd, s.kh, s.kw, [&](int64_t kd, int64_t kh, int64_t kw) {
        T total = 0;
        for (int64_t begin = 0; begin < s.n; begin += images) {
          T sum = 0;
          for (int64_t n = begin; n < std::min(s.n, begin + images); ++n) {
            each(s.od, s.oh, s.ow, [&](int64_t od, int64_t oh, int64_t ow) {
              const int64_t d = od * s.stride_d + kd * s.dilation_d - s.pad_front;
              const int64_t h = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
              const int64_t v = ow * s.stride_w + kw * s.dilation_w - s.pad_left;
              if (!inside(d, s.d) || !inside(h, s.h) || !inside(v, s.w)) return;
              sum = std::fma(x[n * call.x.n + d * call.x.d + h * call.x.h + v * call.x.w + c * call.x.c],
                             dy[n * call.y.n + od * call.y.d + oh * call.y.h + ow * call.y.w + o * call.y.c], sum);
            });
          }
          total = begin ? total + sum : sum;
        }
        dw[(((o * s.ci + i) * s.kd + kd) * s.kh + kh) * s.kw + kw] = total;
      });
    }
  }
}

template <class T>
using Body = void (*)(const Call&, const T*, const T*, T*);

BoundKernel bind(const KernelSpec& spec, const ConvSpec& conv, Body<float> f32, Body<double> f64) {
  const DType dtype = spec.inputs[0].dtype;
  if (dtype == DType::F32 && wants_winograd(spec)) return ref::bind_winograd(spec, conv);
  BoundKernel bound;
  if (dtype == DType::F32) {
    bound.run = [call = call_of(conv), f32](const RunArgs& r) {
      f32(call, static_cast<const float*>(r.in[0]), static_cast<const float*>(r.in[1]), static_cast<float*>(r.out[0]));
    };
  } else if (dtype == DType::F64) {
    bound.run = [call = call_of(conv), f64](const RunArgs& r) {
      f64(call, static_cast<const double*>(r.in[0]), static_cast<const double*>(r.in[1]),
          static_cast<double*>(r.out[0]));
    };
  }
  return bound;
}

BoundKernel bind_forward(const KernelSpec& spec) {
  return bind(spec, read_conv(spec, spec.inputs[0].shape, spec.inputs[1].shape, spec.outputs[0].shape), forward<float>,
              forward<double>);
}
BoundKernel bind_data(const KernelSpec& spec) {
  return bind(spec, read_conv(spec, spec.outputs[0].shape, spec.inputs[1].shape, spec.inputs[0].shape),
              backward_data<float>, backward_data<double>);
}
BoundKernel bind_weight(const KernelSpec& spec) {
  return bind(spec, read_conv(spec, spec.inputs[0].shape, spec.outputs[0].shape, spec.inputs[1].shape),
              backward_weight<float>, backward_weight<double>);
}

}  // namespace

void register_ref_conv(Registry& registry) {
  for (const std::string op : {"conv2d", "conv3d"}) {
    registry.add("ref", 0, op, bind_forward);
    registry.add("ref", 0, op + "_backward_data", bind_data);
    registry.add("ref", 0, op + "_backward_weight", bind_weight);
  }
}

}  // namespace dlcore
