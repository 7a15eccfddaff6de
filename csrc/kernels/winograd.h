// Winograd's minimal filtering: M outputs of R taps along an axis from P = M + R - 1 inputs by P products instead of
// M·R; along both axes F(4x4, 3x3) takes 36 products a channel pair instead of 144, F(2x2, 5x5) 36 instead of 100, and
// F(2x2, 3x3), which rounds about as the direct sum does, 16 instead of 36. Lavin and Gray, "Fast algorithms for
// convolutional neural networks" (CVPR 2016). Six points are 0, ±√½, ±√2, ∞ instead of the textbook 0, ±1, ±2, ∞: the
// transforms then hold no large numbers and the rounding error is several times smaller (Alam et al., "Winograd
// convolution for deep neural networks: efficient point selection", 2022); four are 0, ±1, ∞, and five, for F(4x4,
// 2x2), ±½, ±3/2, ∞: of the sets tried the one that rounds as the six do. The inputs' transform depends on the points
// alone, and that of the outputs, the filter and their gradients are values of a polynomial at the points, or the
// transpose of that.
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

// The values at six points of the polynomial with N coefficients y.
template <class A, int N, class V = typename A::V>
inline __attribute__((always_inline)) void evaluate(const V* y, V* v) {
  V even1 = y[(N - 1) / 2 * 2], odd1 = y[(N - 2) / 2 * 2 + 1], even2 = even1, odd2 = odd1;
#pragma GCC unroll 4
  for (int i = (N - 1) / 2 * 2 - 2; i >= 0; i -= 2) {
    even1 = A::fma(A::number(0.5f), even1, y[i]);
    even2 = A::fma(A::number(2.0f), even2, y[i]);
  }
#pragma GCC unroll 4
  for (int i = (N - 2) / 2 * 2 - 1; i >= 0; i -= 2) {
    odd1 = A::fma(A::number(0.5f), odd1, y[i]);
    odd2 = A::fma(A::number(2.0f), odd2, y[i]);
  }
  odd1 = A::number(kA) * odd1;
  odd2 = A::number(kB) * odd2;
  v[0] = y[0];
  v[1] = even1 + odd1;
  v[2] = even1 - odd1;
  v[3] = even2 + odd2;
  v[4] = even2 - odd2;
  v[5] = y[N - 1];
}

// The transpose of `evaluate`, from values at 0 and ∞ and the sums and differences of those at the pairs.
template <class A, int N, class V = typename A::V>
inline __attribute__((always_inline)) void moments(V zero, V s1, V d1, V s2, V d2, V infinity, V* y) {
  y[0] = (zero + s1) + s2;
  float even1 = 1.0f, even2 = 1.0f;
#pragma GCC unroll 4
  for (int i = 1; i < N; ++i) {
    if (i % 2 == 0) even1 *= 0.5f, even2 *= 2.0f;
    const V w1 = A::number(i % 2 ? kA * even1 : even1), w2 = A::number(i % 2 ? kB * even2 : even2);
    const V x1 = i % 2 ? d1 : s1, x2 = i % 2 ? d2 : s2;
    y[i] = A::fma(w2, x2, i == N - 1 ? A::fma(w1, x1, infinity) : w1 * x1);
  }
}

// The five transforms along one axis: input P → P, output P → M, filter R → P, and of the weights' gradient M → P and
// P → R.
template <int Outputs, int Taps>
struct Axis {
  static constexpr int M = Outputs, R = Taps, P = M + R - 1;
};

template <class A, class X>
struct Transforms {
  static_assert(X::P == 6);
  using V = typename A::V;
  static inline __attribute__((always_inline)) void input(const V* d, V* t) { input6<A>(d, t); }
  static inline __attribute__((always_inline)) void output(const V* m, V* y) {
    moments<A, X::M>(m[0], m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4], m[5], y);
  }
  static inline __attribute__((always_inline)) void filter(const V* g, V* u) {
    evaluate<A, X::R>(g, u);
    const V third = A::number(-2.0f / 3.0f), sixth = A::number(1.0f / 6.0f);
    u[1] = third * u[1];
    u[2] = third * u[2];
    u[3] = sixth * u[3];
    u[4] = sixth * u[4];
  }
  static inline __attribute__((always_inline)) void gradient(const V* y, V* v) { evaluate<A, X::M>(y, v); }
  static inline __attribute__((always_inline)) void filter_gradient(const V* u, V* g) {
    const V third = A::number(-2.0f / 3.0f), sixth = A::number(1.0f / 6.0f);
    moments<A, X::R>(u[0], third * (u[1] + u[2]), third * (u[1] - u[2]), sixth * (u[3] + u[4]), sixth * (u[3] - u[4]),
                     u[5], g);
  }
};

// A single tap: nothing to save along this axis.
template <class A>
struct Transforms<A, Axis<1, 1>> {
  using V = typename A::V;
  static inline __attribute__((always_inline)) void input(const V* d, V* t) { t[0] = d[0]; }
  static inline __attribute__((always_inline)) void output(const V* m, V* y) { y[0] = m[0]; }
  static inline __attribute__((always_inline)) void filter(const V* g, V* u) { u[0] = g[0]; }
  static inline __attribute__((always_inline)) void gradient(const V* y, V* v) { v[0] = y[0]; }
  static inline __attribute__((always_inline)) void filter_gradient(const V* u, V* g) { g[0] = u[0]; }
};

template <class A>
struct Transforms<A, Axis<2, 3>> {
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

template <class A>
struct Transforms<A, Axis<4, 2>> {
  using V = typename A::V;
  static inline __attribute__((always_inline)) void input(const V* d, V* t) {
    const V even1 = A::fma(A::number(-2.25f), d[0], d[2]), odd1 = A::fma(A::number(-2.25f), d[1], d[3]);
    const V even2 = A::fma(A::number(-0.25f), d[0], d[2]), odd2 = A::fma(A::number(-0.25f), d[1], d[3]);
    t[0] = A::fma(A::number(0.5f), even1, odd1);
    t[1] = A::fma(A::number(-0.5f), even1, odd1);
    t[2] = A::fma(A::number(1.5f), even2, odd2);
    t[3] = A::fma(A::number(-1.5f), even2, odd2);
    t[4] = A::fma(A::number(-2.5f), d[2], A::fma(A::number(0.5625f), d[0], d[4]));
  }
  static inline __attribute__((always_inline)) void output(const V* m, V* y) {
    const V s1 = m[0] + m[1], d1 = m[0] - m[1], s2 = m[2] + m[3], d2 = m[2] - m[3];
    y[0] = s1 + s2;
    y[1] = A::fma(A::number(1.5f), d2, A::number(0.5f) * d1);
    y[2] = A::fma(A::number(2.25f), s2, A::number(0.25f) * s1);
    y[3] = A::fma(A::number(3.375f), d2, A::fma(A::number(0.125f), d1, m[4]));
  }
  static inline __attribute__((always_inline)) void filter(const V* g, V* u) {
    const V half = A::number(0.5f), even1 = half * g[0], even2 = A::number(1.0f / 6.0f) * g[0];
    u[0] = A::fma(A::number(-0.25f), g[1], -even1);
    u[1] = A::fma(A::number(-0.25f), g[1], even1);
    u[2] = A::fma(A::number(0.25f), g[1], even2);
    u[3] = A::fma(A::number(0.25f), g[1], -even2);
    u[4] = g[1];
  }
  static inline __attribute__((always_inline)) void gradient(const V* y, V* v) {
    const V even1 = A::fma(A::number(0.25f), y[2], y[0]), even2 = A::fma(A::number(2.25f), y[2], y[0]);
    const V odd1 = A::fma(A::number(0.25f), y[3], y[1]), odd2 = A::fma(A::number(2.25f), y[3], y[1]);
    v[0] = A::fma(A::number(0.5f), odd1, even1);
    v[1] = A::fma(A::number(-0.5f), odd1, even1);
    v[2] = A::fma(A::number(1.5f), odd2, even2);
    v[3] = A::fma(A::number(-1.5f), odd2, even2);
    v[4] = y[3];
  }
  static inline __attribute__((always_inline)) void filter_gradient(const V* u, V* g) {
    const V quarter = A::number(0.25f);
    g[0] = A::fma(A::number(1.0f / 6.0f), u[2] - u[3], A::number(-0.5f) * (u[0] - u[1]));
    g[1] = A::fma(quarter, u[2] + u[3], A::fma(-quarter, u[0] + u[1], u[4]));
  }
};

// Both axes of a form; tiles are row by row. Step: the taps are every second of the kernel's.
template <class Height, class Width, int Step = 1>
struct Form {
  using H = Height;
  using W = Width;
  static constexpr int kStep = Step;
  static constexpr int kPoints = H::P * W::P, kOutputs = H::M * W::M, kTaps = H::R * W::R;
};

// One transform to the columns of in[InH][InW], another to the rows of what comes of it → out[OutH][OutW].
template <int InH, int OutH, int InW, int OutW, class V, class FH, class FW>
inline __attribute__((always_inline)) void both_ways(const V* in, V* out, FH down, FW across) {
  V half[OutH * InW];
#pragma GCC unroll 6
  for (int c = 0; c < InW; ++c) {
    V column[InH], moved[OutH];
#pragma GCC unroll 6
    for (int r = 0; r < InH; ++r) column[r] = in[r * InW + c];
    down(column, moved);
#pragma GCC unroll 6
    for (int r = 0; r < OutH; ++r) half[r * InW + c] = moved[r];
  }
#pragma GCC unroll 6
  for (int r = 0; r < OutH; ++r) across(half + r * InW, out + r * OutW);
}

template <class A, class X>
struct Input {
  using V = typename A::V;
  inline __attribute__((always_inline)) void operator()(const V* d, V* t) const { Transforms<A, X>::input(d, t); }
};
template <class A, class X>
struct Output {
  using V = typename A::V;
  inline __attribute__((always_inline)) void operator()(const V* d, V* t) const { Transforms<A, X>::output(d, t); }
};
template <class A, class X>
struct Filter {
  using V = typename A::V;
  inline __attribute__((always_inline)) void operator()(const V* d, V* t) const { Transforms<A, X>::filter(d, t); }
};
template <class A, class X>
struct Gradient {
  using V = typename A::V;
  inline __attribute__((always_inline)) void operator()(const V* d, V* t) const { Transforms<A, X>::gradient(d, t); }
};
template <class A, class X>
struct FilterGradient {
  using V = typename A::V;
  inline __attribute__((always_inline)) void operator()(const V* d, V* t) const {
    Transforms<A, X>::filter_gradient(d, t);
  }
};

// Whole tiles of form F.
template <class A, class F, class V = typename A::V>
inline __attribute__((always_inline)) void input_tile(const V* d, V* t) {
  both_ways<F::H::P, F::H::P, F::W::P, F::W::P>(d, t, Input<A, typename F::H>(), Input<A, typename F::W>());
}
template <class A, class F, class V = typename A::V>
inline __attribute__((always_inline)) void output_tile(const V* m, V* y) {
  both_ways<F::H::P, F::H::M, F::W::P, F::W::M>(m, y, Output<A, typename F::H>(), Output<A, typename F::W>());
}
template <class A, class F, class V = typename A::V>
inline __attribute__((always_inline)) void filter_tile(const V* g, V* u) {
  both_ways<F::H::R, F::H::P, F::W::R, F::W::P>(g, u, Filter<A, typename F::H>(), Filter<A, typename F::W>());
}
template <class A, class F, class V = typename A::V>
inline __attribute__((always_inline)) void gradient_tile(const V* y, V* v) {
  both_ways<F::H::M, F::H::P, F::W::M, F::W::P>(y, v, Gradient<A, typename F::H>(), Gradient<A, typename F::W>());
}
template <class A, class F, class V = typename A::V>
inline __attribute__((always_inline)) void filter_gradient_tile(const V* u, V* g) {
  both_ways<F::H::P, F::H::R, F::W::P, F::W::R>(u, g, FilterGradient<A, typename F::H>(),
                                                FilterGradient<A, typename F::W>());
}

}  // namespace dlcore::winograd
