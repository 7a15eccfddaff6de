// Winograd's minimal filtering: F(4x4, 3x3), 4x4 outputs from 6x6 inputs with 36 products a channel pair instead of
// 144, and F(2x2, 3x3), 2x2 from 4x4 with 16 instead of 36, which rounds about as the direct sum does. Lavin and Gray,
// "Fast algorithms for convolutional neural networks" (CVPR 2016). F(4x4) has the interpolation points 0, ±√½, ±√2, ∞
// instead of the textbook 0, ±1, ±2, ∞: the transforms then hold no large numbers and the rounding error is several
// times smaller (Alam et al., "Winograd convolution for deep neural networks: efficient point selection", 2022);
// F(2x2) has 0, ±1, ∞.
// Templates over an arithmetic A with a value type A::V, A::fma(a, b, c) and A::number(x): vectors in cpu/, floats in
// ref/, so that both round alike.
#pragma once

namespace dlcore::winograd {

inline constexpr float kA = 0.70710678118654752f;  // √½
inline constexpr float kB = 1.41421356237309505f;  // √2

// Bᵀ d: six samples of the input.
template <class A, class V = typename A::V>
inline __attribute__((always_inline)) void input6(const V* d, V* t) {
  const V even1 = A::fma(A::number(-2.0f), d[2], d[4]), odd1 = A::fma(A::number(-2.0f), d[1], d[3]);
  const V even2 = A::fma(A::number(-0.5f), d[2], d[4]), odd2 = A::fma(A::number(-0.5f), d[1], d[3]);
  t[0] = A::fma(A::number(-2.5f), d[2], d[0] + d[4]);
  t[1] = A::fma(A::number(kA), odd1, even1);
  t[2] = A::fma(A::number(-kA), odd1, even1);
  t[3] = A::fma(A::number(kB), odd2, even2);
  t[4] = A::fma(A::number(-kB), odd2, even2);
  t[5] = A::fma(A::number(-2.5f), d[3], d[1] + d[5]);
}

// Aᵀ m: four outputs.
template <class A, class V = typename A::V>
inline __attribute__((always_inline)) void output4(const V* m, V* y) {
  const V s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
  y[0] = (m[0] + s1) + s2;
  y[1] = A::fma(A::number(kB), d2, A::number(kA) * d1);
  y[2] = A::fma(A::number(2.0f), s2, A::number(0.5f) * s1);
  y[3] = A::fma(A::number(2.0f * kB), d2, A::fma(A::number(0.5f * kA), d1, m[5]));
}

// G g: three taps of the filter.
template <class A, class V = typename A::V>
inline __attribute__((always_inline)) void filter6(const V* g, V* u) {
  const V third = A::number(-2.0f / 3.0f), sixth = A::number(1.0f / 6.0f);
  const V even1 = A::fma(A::number(0.5f), g[2], g[0]), odd1 = A::number(kA) * g[1];
  const V even2 = A::fma(A::number(2.0f), g[2], g[0]), odd2 = A::number(kB) * g[1];
  u[0] = g[0];
  u[1] = third * (even1 + odd1);
  u[2] = third * (even1 - odd1);
  u[3] = sixth * (even2 + odd2);
  u[4] = sixth * (even2 - odd2);
  u[5] = g[2];
}

// A y: the transpose of output4, for the gradient of the filter.
template <class A, class V = typename A::V>
inline __attribute__((always_inline)) void gradient6(const V* y, V* v) {
  const V even1 = A::fma(A::number(0.5f), y[2], y[0]), odd1 = A::number(kA) * A::fma(A::number(0.5f), y[3], y[1]);
  const V even2 = A::fma(A::number(2.0f), y[2], y[0]), odd2 = A::number(kB) * A::fma(A::number(2.0f), y[3], y[1]);
  v[0] = y[0];
  v[1] = even1 + odd1;
  v[2] = even1 - odd1;
  v[3] = even2 + odd2;
  v[4] = even2 - odd2;
  v[5] = y[3];
}

// Gᵀ u: the transpose of filter6.
template <class A, class V = typename A::V>
inline __attribute__((always_inline)) void filter3(const V* u, V* g) {
  const V third = A::number(-2.0f / 3.0f), sixth = A::number(1.0f / 6.0f);
  const V s1 = third * (u[1] + u[2]), d1 = third * (u[1] - u[2]);
  const V s2 = sixth * (u[3] + u[4]), d2 = sixth * (u[3] - u[4]);
  g[0] = (u[0] + s1) + s2;
  g[1] = A::fma(A::number(kB), d2, A::number(kA) * d1);
  g[2] = A::fma(A::number(2.0f), s2, A::fma(A::number(0.5f), s1, u[5]));
}

// The five transforms of F(MxM, 3x3) along one axis: input M + 2 → M + 2, output M + 2 → M, filter 3 → M + 2, and of
// the weights' gradient M → M + 2 and M + 2 → 3.
template <class A, int M>
struct Transforms;

template <class A>
struct Transforms<A, 4> {
  using V = typename A::V;
  static inline __attribute__((always_inline)) void input(const V* d, V* t) { input6<A>(d, t); }
  static inline __attribute__((always_inline)) void output(const V* m, V* y) { output4<A>(m, y); }
  static inline __attribute__((always_inline)) void filter(const V* g, V* u) { filter6<A>(g, u); }
  static inline __attribute__((always_inline)) void gradient(const V* y, V* v) { gradient6<A>(y, v); }
  static inline __attribute__((always_inline)) void filter_gradient(const V* u, V* g) { filter3<A>(u, g); }
};

template <class A>
struct Transforms<A, 2> {
  using V = typename A::V;
  static inline __attribute__((always_inline)) void input(const V* d, V* t) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[1] - d[3];
  }
  static inline __attribute__((always_inline)) void output(const V* m, V* y) {
    y[0] = (m[0] + m[1]) + m[2];
    y[1] = (m[1] - m[2]) - m[3];
  }
  static inline __attribute__((always_inline)) void filter(const V* g, V* u) {
    const V half = A::number(0.5f), even = half * (g[0] + g[2]);
    u[0] = g[0];
    u[1] = A::fma(half, g[1], even);
    u[2] = A::fma(A::number(-0.5f), g[1], even);
    u[3] = g[2];
  }
  static inline __attribute__((always_inline)) void gradient(const V* y, V* v) {
    v[0] = y[0];
    v[1] = y[0] + y[1];
    v[2] = y[0] - y[1];
    v[3] = -y[1];
  }
  static inline __attribute__((always_inline)) void filter_gradient(const V* u, V* g) {
    const V half = A::number(0.5f), even = half * (u[1] + u[2]);
    g[0] = u[0] + even;
    g[1] = half * (u[1] - u[2]);
    g[2] = even + u[3];
  }
};

// Applies a one-dimensional transform (In samples → Out) to the columns and then the rows of in[In][In] →
// out[Out][Out].
template <int In, int Out, class V, class F>
inline __attribute__((always_inline)) void both_ways(const V* in, V* out, F transform) {
  V half[Out * In];
#pragma GCC unroll 6
  for (int c = 0; c < In; ++c) {
    V column[In], moved[Out];
#pragma GCC unroll 6
    for (int r = 0; r < In; ++r) column[r] = in[r * In + c];
    transform(column, moved);
#pragma GCC unroll 6
    for (int r = 0; r < Out; ++r) half[r * In + c] = moved[r];
  }
#pragma GCC unroll 6
  for (int r = 0; r < Out; ++r) transform(half + r * In, out + r * Out);
}

}  // namespace dlcore::winograd
