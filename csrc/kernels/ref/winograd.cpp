// Winograd's algorithm as plain loops: the oracle of the vectorised one. float64 goes the direct way.
#include "kernels/winograd.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/winograd_spec.h"

namespace dlcore {

namespace {

struct Arithmetic {
  using V = float;
  static float fma(float a, float b, float c) { return std::fma(a, b, c); }
  static float number(float x) { return x; }
};

struct Images {
  int64_t n, d, h, w, c;  // strides
  Images(bool channels_first, int64_t depth, int64_t height, int64_t width, int64_t channels)
      : n(depth * height * width * channels),
        d(height * width * (channels_first ? 1 : channels)),
        h(width * (channels_first ? 1 : channels)),
        w(channels_first ? 1 : channels),
        c(channels_first ? depth * height * width : 1) {}
};

// Rows x Cols pixels of one channel of a slice, step·dilation apart, from (top, left), zeros outside.
template <int Rows, int Cols>
void read(const WinogradShape& s, int64_t step, const float* slice, const Images& at, int64_t height, int64_t width,
          int64_t top, int64_t left, float* to) {
  for (int r = 0; r < Rows; ++r)
    for (int q = 0; q < Cols; ++q) {
      const int64_t y = top + r * step * s.dilation_h, x = left + q * step * s.dilation_w;
      to[r * Cols + q] = y >= 0 && y < height && x >= 0 && x < width ? slice[y * at.h + x * at.w] : 0.0f;
    }
}

// What a row of the products' depth is.
struct Row {
  int64_t tap;  // of depth
  WinogradPhase phase;
  int64_t channel;
  Row(const WinogradShape& s, int64_t row)
      : tap(row / s.ci / s.in_phases()), phase(s.phase(s.step_in, row / s.ci % s.in_phases())), channel(row % s.ci) {}
};

// u[point][kd][phase][ci][co] of a phase of the outputs.
template <class F>
std::vector<float> filters(const WinogradShape& s, const float* weights, bool rotated, WinogradPhase of_out) {
  std::vector<float> u(static_cast<size_t>(F::kPoints * s.depth() * s.co));
  for (int64_t row = 0; row < s.depth(); ++row) {
    const auto [t, of_in, i] = Row(s, row);
    int64_t taps[F::kTaps];
    s.find_taps<F>(s.step_out == 2 ? of_out : of_in, rotated, taps);
    for (int64_t o = 0; o < s.co; ++o) {
      const float* w = weights + ((rotated ? i * s.co + o : o * s.ci + i) * s.kd + (rotated ? s.kd - 1 - t : t)) *
                                     s.kernel_h * s.kernel_w;
      float g[F::kTaps], out[F::kPoints];
      for (int k = 0; k < F::kTaps; ++k) g[k] = taps[k] < 0 ? 0.0f : w[taps[k]];
      winograd::filter_tile<Arithmetic, F>(g, out);
      for (int k = 0; k < F::kPoints; ++k) u[static_cast<size_t>((k * s.depth() + row) * s.co + o)] = out[k];
    }
  }
  return u;
}

// f(n, slice, top, left) of each tile of outputs.
template <class Body>
void for_each_tile(const WinogradShape& s, Body body) {
  const int64_t step_h = s.tile_h * s.dilation_h, step_w = s.tile_w * s.dilation_w;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t z = 0; z < s.od; ++z)
      for (int64_t h = 0; h < s.oh; h += step_h)
        for (int64_t top = h; top < std::min(s.oh, h + s.dilation_h); ++top)
          for (int64_t w = 0; w < s.ow; w += step_w)
            for (int64_t left = w; left < std::min(s.ow, w + s.dilation_w); ++left) body(n, z, top, left);
}

// v[kd][phase][ci][point] of the tile of inputs that these outputs see.
template <class F>
void inputs(const WinogradShape& s, WinogradPhase of_out, const float* in, const Images& from, int64_t n, int64_t z,
            int64_t top, int64_t left, float* v) {
  for (int64_t row = 0; row < s.depth(); ++row, v += F::kPoints) {
    const auto [t, of_in, i] = Row(s, row);
    const int64_t slice = z - s.pad_front + t * s.dilation_d;
    const bool inside = slice >= 0 && slice < s.d;
    float d[F::kPoints];
    read<F::H::P, F::W::P>(s, s.step_in, in + n * from.n + (inside ? slice : 0) * from.d + i * from.c, from,
                           inside ? s.h : 0, s.w, s.step_in * top - s.pad_top[of_in.h + of_out.h],
                           s.step_in * left - s.pad_left[of_in.w + of_out.w], d);
    winograd::input_tile<Arithmetic, F>(d, v);
  }
}

template <class F>
void run_phase(const WinogradShape& s, WinogradPhase of_out, bool channels_first, bool rotated, const float* in,
               const float* weights, float* out) {
  const Images from(channels_first, s.d, s.h, s.w, s.in_channels());
  const Images to(channels_first, s.od, s.out_h, s.out_w, s.out_channels());
  const std::vector<float> u = filters<F>(s, weights, rotated, of_out);
  const int64_t depth = s.depth(), apart_h = s.step_out * s.dilation_h, apart_w = s.step_out * s.dilation_w;
  std::vector<float> v(static_cast<size_t>(depth * F::kPoints));
  for_each_tile(s, [&](int64_t n, int64_t z, int64_t top, int64_t left) {
    inputs<F>(s, of_out, in, from, n, z, top, left, v.data());
    for (int64_t o = 0; o < s.co; ++o) {
      float m[F::kPoints] = {}, y[F::kOutputs];
      for (int k = 0; k < F::kPoints; ++k) {
        const WinogradShape::Depth rows = s.depth_at<F>(k, of_out);
        for (int64_t i = rows.from; i < rows.to; ++i)
          m[k] = std::fma(v[static_cast<size_t>(i * F::kPoints + k)],
                          u[static_cast<size_t>((k * depth + i) * s.co + o)], m[k]);
      }
      winograd::output_tile<Arithmetic, F>(m, y);
      for (int64_t r = 0, h = s.step_out * top + s.top[of_out.h]; r < F::H::M && h < s.out_h; ++r, h += apart_h)
        for (int64_t q = 0, w = s.step_out * left + s.left[of_out.w]; q < F::W::M && w < s.out_w; ++q, w += apart_w)
          out[n * to.n + z * to.d + h * to.h + w * to.w + o * to.c] = y[r * F::W::M + q];
    }
  });
}

template <class F>
void run(const WinogradShape& s, bool channels_first, bool rotated, const float* in, const float* weights, float* out) {
  const int64_t in_size = channels_first ? s.d * s.h * s.w : 1,
                out_size = channels_first ? s.od * s.out_h * s.out_w : 1;
  for (int64_t g = 0; g < s.groups; ++g)
    for (int64_t f = 0; f < s.out_phases(); ++f)
      run_phase<F>(s, s.phase(s.step_out, f), channels_first, rotated, in + g * s.ci * in_size,
                   weights + g * s.weights(), out + g * s.co * out_size);
}

template <class F>
void run_weight_of_group(const WinogradShape& s, bool channels_first, const float* in, const float* dout, float* dw) {
  const Images from(channels_first, s.d, s.h, s.w, s.in_channels());
  const Images to(channels_first, s.od, s.oh, s.ow, s.out_channels());
  const int64_t depth = s.depth();
  std::vector<float> sums(static_cast<size_t>(s.co * depth * F::kPoints), 0.0f);
  std::vector<float> v(static_cast<size_t>(depth * F::kPoints));
  for_each_tile(s, [&](int64_t n, int64_t z, int64_t top, int64_t left) {
    inputs<F>(s, {}, in, from, n, z, top, left, v.data());
    for (int64_t o = 0; o < s.co; ++o) {
      float d[F::kOutputs], g[F::kPoints];
      read<F::H::M, F::W::M>(s, 1, dout + n * to.n + z * to.d + o * to.c, to, s.oh, s.ow, top, left, d);
      winograd::gradient_tile<Arithmetic, F>(d, g);
      for (int64_t i = 0; i < depth; ++i) {
        float* sum = sums.data() + (o * depth + i) * F::kPoints;
        for (int k = 0; k < F::kPoints; ++k)
          sum[k] = std::fma(g[k], v[static_cast<size_t>(i * F::kPoints + k)], sum[k]);
      }
    }
  });
  for (int64_t o = 0; o < s.co; ++o)
    for (int64_t row = 0; row < depth; ++row) {
      const auto [t, of_in, i] = Row(s, row);
      int64_t taps[F::kTaps];
      s.find_taps<F>(of_in, false, taps);
      float g[F::kTaps];
      winograd::filter_gradient_tile<Arithmetic, F>(sums.data() + (o * depth + row) * F::kPoints, g);
      float* to_kernel = dw + ((o * s.ci + i) * s.kd + t) * s.kernel_h * s.kernel_w;
      for (int k = 0; k < F::kTaps; ++k)
        if (taps[k] >= 0) to_kernel[taps[k]] = g[k];
    }
}

template <class F>
void run_weight(const WinogradShape& s, bool channels_first, const float* in, const float* dout, float* dw) {
  const int64_t in_size = channels_first ? s.d * s.h * s.w : 1, out_size = channels_first ? s.od * s.oh * s.ow : 1;
  for (int64_t g = 0; g < s.groups; ++g)
    run_weight_of_group<F>(s, channels_first, in + g * s.ci * in_size, dout + g * s.co * out_size,
                           dw + g * s.weights());
}

struct Loops {
  decltype(&run<winograd::Square4>) forward;
  decltype(&run_weight<winograd::Square4>) weight;
};
template <class F>
constexpr Loops loops() {
  return {run<F>, run_weight<F>};
}
#define DLCORE_FORM(F) loops<winograd::F>(),
constexpr Loops kLoops[kWinogradForms] = {DLCORE_WINOGRAD_FORMS(DLCORE_FORM)};
#undef DLCORE_FORM

}  // namespace

BoundKernel ref::bind_winograd(const KernelSpec& spec, const ConvSpec& conv) {
  const bool of_input = is_of_input(spec), of_weight = is_of_weight(spec);
  const WinogradShape s = winograd_shape(spec, conv.shape);
  return {[s, nchw = conv.nchw, of_input, of_weight](const RunArgs& r) {
    const float *a = static_cast<const float*>(r.in[0]), *b = static_cast<const float*>(r.in[1]);
    float* out = static_cast<float*>(r.out[0]);
    if (of_weight)
      kLoops[s.form].weight(s, nchw, a, b, out);
    else
      kLoops[s.form].forward(s, nchw, of_input, a, b, out);
  }};
}

}  // namespace dlcore
