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

constexpr int kPoints = 36;

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
std::vector<float> filters(const WinogradShape& s, const float* weights, bool rotated) {
  std::vector<float> u(static_cast<size_t>(kPoints * s.ci * s.co));
  for (int64_t i = 0; i < s.ci; ++i)
    for (int64_t o = 0; o < s.co; ++o) {
      const float* w = weights + (rotated ? i * s.co + o : o * s.ci + i) * 9;
      float g[9], out[kPoints];
      for (int k = 0; k < 9; ++k) g[k] = w[rotated ? 8 - k : k];
      winograd::both_ways<3, 6>(g, out, winograd::filter6<Arithmetic>);
      for (int k = 0; k < kPoints; ++k) u[static_cast<size_t>((k * s.ci + i) * s.co + o)] = out[k];
    }
  return u;
}

template <class F>
void for_each_tile(const WinogradShape& s, F body) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t top = 0; top < s.oh; top += 4)
      for (int64_t left = 0; left < s.ow; left += 4) body(n, top, left);
}

void run(const WinogradShape& s, bool nchw, bool rotated, const float* in, const float* weights, float* out) {
  const Images from(nchw, s.h, s.w, s.ci), to(nchw, s.oh, s.ow, s.co);
  const std::vector<float> u = filters(s, weights, rotated);
  std::vector<float> v(static_cast<size_t>(s.ci * kPoints));
  for_each_tile(s, [&](int64_t n, int64_t top, int64_t left) {
    for (int64_t i = 0; i < s.ci; ++i) {
      float d[kPoints];
      read<6>(in + n * from.n + i * from.c, from, s.h, s.w, top - s.pad_top, left - s.pad_left, d);
      winograd::both_ways<6, 6>(d, v.data() + i * kPoints, winograd::input6<Arithmetic>);
    }
    for (int64_t o = 0; o < s.co; ++o) {
      float m[kPoints] = {}, y[16];
      for (int64_t i = 0; i < s.ci; ++i)
        for (int k = 0; k < kPoints; ++k)
          m[k] = std::fma(v[static_cast<size_t>(i * kPoints + k)], u[static_cast<size_t>((k * s.ci + i) * s.co + o)],
                          m[k]);
      winograd::both_ways<6, 4>(m, y, winograd::output4<Arithmetic>);
      for (int64_t r = 0; r < std::min<int64_t>(4, s.oh - top); ++r)
        for (int64_t q = 0; q < std::min<int64_t>(4, s.ow - left); ++q)
          out[n * to.n + (top + r) * to.h + (left + q) * to.w + o * to.c] = y[r * 4 + q];
    }
  });
}

void run_weight(const WinogradShape& s, bool nchw, const float* in, const float* dout, float* dw) {
  const Images from(nchw, s.h, s.w, s.ci), to(nchw, s.oh, s.ow, s.co);
  std::vector<float> sums(static_cast<size_t>(s.co * s.ci * kPoints), 0.0f);
  std::vector<float> v(static_cast<size_t>(s.ci * kPoints));
  for_each_tile(s, [&](int64_t n, int64_t top, int64_t left) {
    for (int64_t i = 0; i < s.ci; ++i) {
      float d[kPoints];
      read<6>(in + n * from.n + i * from.c, from, s.h, s.w, top - s.pad_top, left - s.pad_left, d);
      winograd::both_ways<6, 6>(d, v.data() + i * kPoints, winograd::input6<Arithmetic>);
    }
    for (int64_t o = 0; o < s.co; ++o) {
      float d[16], g[kPoints];
      read<4>(dout + n * to.n + o * to.c, to, s.oh, s.ow, top, left, d);
      winograd::both_ways<4, 6>(d, g, winograd::gradient6<Arithmetic>);
      for (int64_t i = 0; i < s.ci; ++i) {
        float* sum = sums.data() + (o * s.ci + i) * kPoints;
        for (int k = 0; k < kPoints; ++k) sum[k] = std::fma(g[k], v[static_cast<size_t>(i * kPoints + k)], sum[k]);
      }
    }
  });
  for (int64_t i = 0; i < s.co * s.ci; ++i)
    winograd::both_ways<6, 3>(sums.data() + i * kPoints, dw + i * 9, winograd::filter3<Arithmetic>);
}

}  // namespace

BoundKernel ref::bind_winograd(const KernelSpec& spec, const ConvSpec& conv) {
  const bool of_input = spec.op == "conv2d_backward_data", of_weight = spec.op == "conv2d_backward_weight";
  const WinogradShape s = winograd_shape(spec, conv.shape, of_input);
  return {[s, nchw = conv.nchw, of_input, of_weight](const RunArgs& r) {
    const float *a = static_cast<const float*>(r.in[0]), *b = static_cast<const float*>(r.in[1]);
    float* out = static_cast<float*>(r.out[0]);
    if (of_weight)
      run_weight(s, nchw, a, b, out);
    else
      run(s, nchw, of_input, a, b, out);
  }};
}

}  // namespace dlcore
