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
  int64_t n, h, w, c;
};
Strides strides_of(bool nchw, int64_t h, int64_t w, int64_t c) {
  return nchw ? Strides{c * h * w, w, 1, h * w} : Strides{h * w * c, w * c, c, 1};
}

struct Call {
  ConvShape s;
  Strides x, y;
};
Call call_of(const ConvSpec& spec) {
  const ConvShape& s = spec.shape;
  return {s, strides_of(spec.nchw, s.h, s.w, s.groups * s.ci), strides_of(spec.nchw, s.oh, s.ow, s.groups * s.co)};
}

bool inside(int64_t i, int64_t size) { return i >= 0 && i < size; }

template <class T>
void forward(const Call& call, const T* x, const T* w, T* y) {
  const ConvShape& s = call.s;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t oh = 0; oh < s.oh; ++oh) {
      for (int64_t ow = 0; ow < s.ow; ++ow) {
        for (int64_t o = 0; o < s.groups * s.co; ++o) {
          const int64_t first = o / s.co * s.ci;
          T sum = 0;
          for (int64_t kh = 0; kh < s.kh; ++kh) {
            for (int64_t kw = 0; kw < s.kw; ++kw) {
              const int64_t h = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
              const int64_t v = ow * s.stride_w + kw * s.dilation_w - s.pad_left;
              const bool image = inside(h, s.h) && inside(v, s.w);
              for (int64_t c = 0; c < s.ci; ++c) {
                const T value = image ? x[n * call.x.n + h * call.x.h + v * call.x.w + (first + c) * call.x.c] : T(0);
                sum = std::fma(value, w[((o * s.ci + c) * s.kh + kh) * s.kw + kw], sum);
              }
            }
          }
          y[n * call.y.n + oh * call.y.h + ow * call.y.w + o * call.y.c] = sum;
        }
      }
    }
  }
}

template <class T>
void backward_data(const Call& call, const T* dy, const T* w, T* dx) {
  const ConvShape& s = call.s;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t h = 0; h < s.h; ++h) {
      for (int64_t v = 0; v < s.w; ++v) {
        for (int64_t i = 0; i < s.groups * s.ci; ++i) {
          const int64_t first = i / s.ci * s.co;
          T sum = 0;
          for (int64_t kh = 0; kh < s.kh; ++kh) {
            for (int64_t kw = 0; kw < s.kw; ++kw) {
              const int64_t from_h = h + s.pad_top - kh * s.dilation_h, from_w = v + s.pad_left - kw * s.dilation_w;
              if (from_h % s.stride_h != 0 || from_w % s.stride_w != 0) continue;
              const int64_t oh = from_h / s.stride_h, ow = from_w / s.stride_w;
              const bool image = inside(oh, s.oh) && inside(ow, s.ow);
              for (int64_t o = first; o < first + s.co; ++o) {
                const T value = image ? dy[n * call.y.n + oh * call.y.h + ow * call.y.w + o * call.y.c] : T(0);
                sum = std::fma(value, w[((o * s.ci + i % s.ci) * s.kh + kh) * s.kw + kw], sum);
              }
            }
          }
          dx[n * call.x.n + h * call.x.h + v * call.x.w + i * call.x.c] = sum;
        }
      }
    }
  }
}

template <class T>
void backward_weight(const Call& call, const T* x, const T* dy, T* dw) {
  const ConvShape& s = call.s;
  const int64_t images = s.n ? (s.n + std::min<int64_t>(s.n, 8) - 1) / std::min<int64_t>(s.n, 8) : 0;
  for (int64_t o = 0; o < s.groups * s.co; ++o) {
    for (int64_t i = 0; i < s.ci; ++i) {
      const int64_t c = o / s.co * s.ci + i;
      for (int64_t kh = 0; kh < s.kh; ++kh) {
        for (int64_t kw = 0; kw < s.kw; ++kw) {
          T total = 0;
          for (int64_t begin = 0; begin < s.n; begin += images) {
            T sum = 0;
            for (int64_t n = begin; n < std::min(s.n, begin + images); ++n) {
              for (int64_t oh = 0; oh < s.oh; ++oh) {
                const int64_t h = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
                if (!inside(h, s.h)) continue;
                for (int64_t ow = 0; ow < s.ow; ++ow) {
                  const int64_t v = ow * s.stride_w + kw * s.dilation_w - s.pad_left;
                  if (!inside(v, s.w)) continue;
                  sum = std::fma(x[n * call.x.n + h * call.x.h + v * call.x.w + c * call.x.c],
                                 dy[n * call.y.n + oh * call.y.h + ow * call.y.w + o * call.y.c], sum);
                }
              }
            }
            total = begin ? total + sum : sum;
          }
          dw[((o * s.ci + i) * s.kh + kh) * s.kw + kw] = total;
        }
      }
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
  registry.add("ref", 0, "conv2d", bind_forward);
  registry.add("ref", 0, "conv2d_backward_data", bind_data);
  registry.add("ref", 0, "conv2d_backward_weight", bind_weight);
}

}  // namespace dlcore
