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

template <int M>
constexpr int kPoints = (M + 2) * (M + 2);
template <int M>
using Moves = winograd::Transforms<Arithmetic, M>;

struct Images {
  int64_t n, h, w, c;  // strides
  Images(bool nchw, int64_t height, int64_t width, int64_t channels)
      : n(height * width * channels),
        h(nchw ? width : width * channels),
        w(nchw ? 1 : channels),
        c(nchw ? height * width : 1) {}
};

// N x N pixels of one channel from (top, left), zeros outside.
template <int N>
void read(const float* image, const Images& at, int64_t height, int64_t width, int64_t top, int64_t left, float* to) {
  for (int r = 0; r < N; ++r)
    for (int q = 0; q < N; ++q) {
      const int64_t y = top + r, x = left + q;
      to[r * N + q] = y >= 0 && y < height && x >= 0 && x < width ? image[y * at.h + x * at.w] : 0.0f;
    }
}

// u[point][ci][co]
template <int M>
std::vector<float> filters(const WinogradShape& s, const float* weights, bool rotated) {
  std::vector<float> u(static_cast<size_t>(kPoints<M> * s.ci * s.co));
  for (int64_t i = 0; i < s.ci; ++i)
    for (int64_t o = 0; o < s.co; ++o) {
      const float* w = weights + (rotated ? i * s.co + o : o * s.ci + i) * 9;
      float g[9], out[kPoints<M>];
      for (int k = 0; k < 9; ++k) g[k] = w[rotated ? 8 - k : k];
      winograd::both_ways<3, M + 2>(g, out, Moves<M>::filter);
      for (int k = 0; k < kPoints<M>; ++k) u[static_cast<size_t>((k * s.ci + i) * s.co + o)] = out[k];
    }
  return u;
}

template <class F>
void for_each_tile(const WinogradShape& s, F body) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t top = 0; top < s.oh; top += s.tile)
      for (int64_t left = 0; left < s.ow; left += s.tile) body(n, top, left);
}

template <int M>
void run(const WinogradShape& s, bool nchw, bool rotated, const float* in, const float* weights, float* out) {
  const Images from(nchw, s.h, s.w, s.ci), to(nchw, s.oh, s.ow, s.co);
  const std::vector<float> u = filters<M>(s, weights, rotated);
  std::vector<float> v(static_cast<size_t>(s.ci * kPoints<M>));
  for_each_tile(s, [&](int64_t n, int64_t top, int64_t left) {
    for (int64_t i = 0; i < s.ci; ++i) {
      float d[kPoints<M>];
      read<M + 2>(in + n * from.n + i * from.c, from, s.h, s.w, top - s.pad_top, left - s.pad_left, d);
      winograd::both_ways<M + 2, M + 2>(d, v.data() + i * kPoints<M>, Moves<M>::input);
    }
    for (int64_t o = 0; o < s.co; ++o) {
      float m[kPoints<M>] = {}, y[M * M];
      for (int64_t i = 0; i < s.ci; ++i)
        for (int k = 0; k < kPoints<M>; ++k)
          m[k] = std::fma(v[static_cast<size_t>(i * kPoints<M> + k)], u[static_cast<size_t>((k * s.ci + i) * s.co + o)],
                          m[k]);
      winograd::both_ways<M + 2, M>(m, y, Moves<M>::output);
      for (int64_t r = 0; r < std::min<int64_t>(M, s.oh - top); ++r)
        for (int64_t q = 0; q < std::min<int64_t>(M, s.ow - left); ++q)
          out[n * to.n + (top + r) * to.h + (left + q) * to.w + o * to.c] = y[r * M + q];
    }
  });
}

template <int M>
void run_weight(const WinogradShape& s, bool nchw, const float* in, const float* dout, float* dw) {
  const Images from(nchw, s.h, s.w, s.ci), to(nchw, s.oh, s.ow, s.co);
  std::vector<float> sums(static_cast<size_t>(s.co * s.ci * kPoints<M>), 0.0f);
  std::vector<float> v(static_cast<size_t>(s.ci * kPoints<M>));
  for_each_tile(s, [&](int64_t n, int64_t top, int64_t left) {
    for (int64_t i = 0; i < s.ci; ++i) {
      float d[kPoints<M>];
      read<M + 2>(in + n * from.n + i * from.c, from, s.h, s.w, top - s.pad_top, left - s.pad_left, d);
      winograd::both_ways<M + 2, M + 2>(d, v.data() + i * kPoints<M>, Moves<M>::input);
    }
    for (int64_t o = 0; o < s.co; ++o) {
      float d[M * M], g[kPoints<M>];
      read<M>(dout + n * to.n + o * to.c, to, s.oh, s.ow, top, left, d);
      winograd::both_ways<M, M + 2>(d, g, Moves<M>::gradient);
      for (int64_t i = 0; i < s.ci; ++i) {
        float* sum = sums.data() + (o * s.ci + i) * kPoints<M>;
        for (int k = 0; k < kPoints<M>; ++k)
          sum[k] = std::fma(g[k], v[static_cast<size_t>(i * kPoints<M> + k)], sum[k]);
      }
    }
  });
  for (int64_t i = 0; i < s.co * s.ci; ++i)
    winograd::both_ways<M + 2, 3>(sums.data() + i * kPoints<M>, dw + i * 9, Moves<M>::filter_gradient);
}

}  // namespace

BoundKernel ref::bind_winograd(const KernelSpec& spec, const ConvSpec& conv) {
  const bool of_input = spec.op == "conv2d_backward_data", of_weight = spec.op == "conv2d_backward_weight";
  const WinogradShape s = winograd_shape(spec, conv.shape, of_input);
  return {[s, nchw = conv.nchw, of_input, of_weight](const RunArgs& r) {
    const float *a = static_cast<const float*>(r.in[0]), *b = static_cast<const float*>(r.in[1]);
    float* out = static_cast<float*>(r.out[0]);
    if (of_weight)
      (s.tile == 4 ? run_weight<4> : run_weight<2>)(s, nchw, a, b, out);
    else
      (s.tile == 4 ? run<4> : run<2>)(s, nchw, of_input, a, b, out);
  }};
}

}  // namespace dlcore
