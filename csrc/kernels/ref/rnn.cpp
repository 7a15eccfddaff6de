#include <algorithm>
#include <vector>

#include "kernels/ref/rows.h"
#include "kernels/scalar.h"
// after scalar.h, which declares what it is made of
#include "kernels/quick_exp.h"

namespace dlcore {

namespace {

using namespace ref;

struct Sequence {
  int64_t steps, batch, hidden;
  bool reverse, relu;

  int64_t time(int64_t s) const { return reverse ? steps - 1 - s : s; }
  // The rows (batch, width) of step s in a (steps, batch, width) sequence; those before the first are `initial`.
  template <class T>
  T* rows(T* sequence, int64_t s, int64_t width) const {
    return sequence + time(s) * batch * width;
  }
  template <class T>
  const T* before(const T* initial, const T* sequence, int64_t s) const {
    return s == 0 ? initial : sequence + time(s - 1) * batch * hidden;
  }
  int64_t state() const { return batch * hidden; }
};

Sequence sequence_of(const KernelSpec& spec, int64_t width) {
  const Shape& s = spec.inputs[0].shape;
  return {s[0], s[1], s[2] / width, spec.attrs.integer_or("reverse", 0) != 0,
          spec.attrs.text_or("nonlinearity", "tanh") == "relu"};
}

// start + Σ h[k]·w[k·stride], one chain.
template <class T>
T chain(T start, const T* h, const T* w, int64_t n, int64_t stride = 1) {
  for (int64_t k = 0; k < n; ++k) start = std::fma(h[k], w[k * stride], start);
  return start;
}

float gate(float x) { return scalar::gate_sigmoid(x); }
double gate(double x) { return scalar_sigmoid(x); }

template <class T>
void lstm(const RunArgs& args, const Sequence& q) {
  const T *gates_x = input<T>(args, 0), *h0 = input<T>(args, 1), *c0 = input<T>(args, 2), *w = input<T>(args, 3);
  T *y = output<T>(args, 0), *gates = output<T>(args, 3), *cells = output<T>(args, 4);
  const int64_t H = q.hidden;
  for (int64_t s = 0; s < q.steps; ++s) {
    for (int64_t b = 0; b < q.batch; ++b) {
      const T *h = q.before(h0, y, s) + b * H, *c = q.before(c0, cells, s) + b * H;
      const T* x = q.rows(gates_x, s, 4 * H) + b * 4 * H;
      T* g = q.rows(gates, s, 4 * H) + b * 4 * H;
      for (int64_t j = 0; j < 4 * H; ++j) {
        const T sum = chain(x[j], h, w + j * H, H);
        g[j] = j / H == 2 ? scalar_tanh(sum) : gate(sum);
      }
      for (int64_t j = 0; j < H; ++j) {
        const T cell = std::fma(g[H + j], c[j], g[j] * g[2 * H + j]);
        q.rows(cells, s, H)[b * H + j] = cell;
        q.rows(y, s, H)[b * H + j] = g[3 * H + j] * scalar_tanh(cell);
      }
    }
  }
  std::copy_n(q.before(h0, y, q.steps), q.state(), output<T>(args, 1));
  std::copy_n(q.before(c0, cells, q.steps), q.state(), output<T>(args, 2));
}

template <class T>
void gru(const RunArgs& args, const Sequence& q) {
  const T *gates_x = input<T>(args, 0), *h0 = input<T>(args, 1), *w = input<T>(args, 2), *b_n = input<T>(args, 3);
  T *y = output<T>(args, 0), *gates = output<T>(args, 2), *products = output<T>(args, 3);
  const int64_t H = q.hidden;
  for (int64_t s = 0; s < q.steps; ++s) {
    for (int64_t b = 0; b < q.batch; ++b) {
      const T *h = q.before(h0, y, s) + b * H, *x = q.rows(gates_x, s, 3 * H) + b * 3 * H;
      T* g = q.rows(gates, s, 3 * H) + b * 3 * H;
      for (int64_t j = 0; j < H; ++j) {
        const T r = gate(chain(x[j], h, w + j * H, H));
        const T z = gate(chain(x[H + j], h, w + (H + j) * H, H));
        const T product = chain(b_n[j], h, w + (2 * H + j) * H, H);
        const T n = scalar_tanh(std::fma(r, product, x[2 * H + j]));
        g[j] = r;
        g[H + j] = z;
        g[2 * H + j] = n;
        q.rows(products, s, H)[b * H + j] = product;
        q.rows(y, s, H)[b * H + j] = std::fma(z, h[j] - n, n);
      }
    }
  }
  std::copy_n(q.before(h0, y, q.steps), q.state(), output<T>(args, 1));
}

template <class T>
void rnn(const RunArgs& args, const Sequence& q) {
  const T *gates_x = input<T>(args, 0), *h0 = input<T>(args, 1), *w = input<T>(args, 2);
  T* y = output<T>(args, 0);
  const int64_t H = q.hidden;
  for (int64_t s = 0; s < q.steps; ++s) {
    for (int64_t b = 0; b < q.batch; ++b) {
      const T* h = q.before(h0, y, s) + b * H;
      for (int64_t j = 0; j < H; ++j) {
        const T sum = chain(q.rows(gates_x, s, H)[b * H + j], h, w + j * H, H);
        q.rows(y, s, H)[b * H + j] = q.relu ? (sum < T(0) ? T(0) : sum) : scalar_tanh(sum);
      }
    }
  }
  std::copy_n(q.before(h0, y, q.steps), q.state(), output<T>(args, 1));
}

// dw[j] = chain of d[t, b, j]·h, the state before step t: the latest step first, b ascending.
template <class T>
void weight_gradient(const Sequence& q, const T* d, int64_t d_row, int64_t gates, const T* h0, const T* y, T* dw) {
  const int64_t H = q.hidden;
  std::fill_n(dw, gates * H, T(0));
  for (int64_t s = q.steps; s-- > 0;) {
    const T* states = q.before(h0, y, s);
    const int64_t t = q.time(s);
    for (int64_t b = 0; b < q.batch; ++b)
      for (int64_t j = 0; j < gates; ++j)
        for (int64_t k = 0; k < H; ++k)
          dw[j * H + k] = std::fma(d[(t * q.batch + b) * d_row + j], states[b * H + k], dw[j * H + k]);
  }
}

template <class T>
T one_less_square(T x) {
  return std::fma(-x, x, T(1));
}
template <class T>
T slope(T s) {
  return s * (T(1) - s);
}

template <class T>
void lstm_backward(const RunArgs& args, const Sequence& q) {
  const T *dy = input<T>(args, 0), *h0 = input<T>(args, 3), *c0 = input<T>(args, 4), *w = input<T>(args, 5);
  const T *y = input<T>(args, 6), *gates = input<T>(args, 7), *cells = input<T>(args, 8);
  T *d_gates = output<T>(args, 0), *dh = output<T>(args, 1), *dc = output<T>(args, 2);
  const int64_t H = q.hidden;
  std::copy_n(input<T>(args, 1), q.state(), dh);
  std::copy_n(input<T>(args, 2), q.state(), dc);
  for (int64_t s = q.steps; s-- > 0;) {
    for (int64_t b = 0; b < q.batch; ++b) {
      const T* before = q.before(c0, cells, s) + b * H;
      const T* p = q.rows(gates, s, 4 * H) + b * 4 * H;
      T* d = q.rows(d_gates, s, 4 * H) + b * 4 * H;
      for (int64_t j = 0; j < H; ++j) {
        const int64_t at = b * H + j;
        const T i = p[j], f = p[H + j], g = p[2 * H + j], o = p[3 * H + j];
        const T D = q.rows(dy, s, H)[at] + dh[at], squashed = scalar_tanh(q.rows(cells, s, H)[at]);
        const T c = std::fma(D * o, one_less_square(squashed), dc[at]);
        d[j] = (c * g) * slope(i);
        d[H + j] = (c * before[j]) * slope(f);
        d[2 * H + j] = (c * i) * one_less_square(g);
        d[3 * H + j] = (D * squashed) * slope(o);
        dc[at] = c * f;
      }
      for (int64_t j = 0; j < H; ++j) dh[b * H + j] = chain(T(0), d, w + j, 4 * H, H);
    }
  }
  weight_gradient(q, d_gates, 4 * H, 4 * H, h0, y, output<T>(args, 3));
}

template <class T>
void gru_backward(const RunArgs& args, const Sequence& q) {
  const T *dy = input<T>(args, 0), *h0 = input<T>(args, 2), *w = input<T>(args, 3), *y = input<T>(args, 4);
  const T *gates = input<T>(args, 5), *products = input<T>(args, 6);
  T *d_gates = output<T>(args, 0), *dh = output<T>(args, 1), *dw = output<T>(args, 2), *d_products = output<T>(args, 3);
  const int64_t H = q.hidden;
  std::copy_n(input<T>(args, 1), q.state(), dh);
  for (int64_t s = q.steps; s-- > 0;) {
    for (int64_t b = 0; b < q.batch; ++b) {
      const T* before = q.before(h0, y, s) + b * H;
      const T* p = q.rows(gates, s, 3 * H) + b * 3 * H;
      T *d = q.rows(d_gates, s, 3 * H) + b * 3 * H, *dp = q.rows(d_products, s, H) + b * H;
      for (int64_t j = 0; j < H; ++j) {
        const int64_t at = b * H + j;
        const T r = p[j], z = p[H + j], n = p[2 * H + j], product = q.rows(products, s, H)[at];
        const T D = q.rows(dy, s, H)[at] + dh[at];
        const T dn = (D * (T(1) - z)) * one_less_square(n);
        d[j] = (dn * product) * slope(r);
        d[H + j] = (D * (before[j] - n)) * slope(z);
        d[2 * H + j] = dn;
        dp[j] = dn * r;
        dh[at] = D * z;
      }
      for (int64_t j = 0; j < H; ++j)
        dh[b * H + j] = chain(chain(dh[b * H + j], d, w + j, 2 * H, H), dp, w + 2 * H * H + j, H, H);
    }
  }
  weight_gradient(q, d_gates, 3 * H, 2 * H, h0, y, dw);
  weight_gradient(q, d_products, H, H, h0, y, dw + 2 * H * H);
}

template <class T>
void rnn_backward(const RunArgs& args, const Sequence& q) {
  const T *dy = input<T>(args, 0), *h0 = input<T>(args, 2), *w = input<T>(args, 3), *y = input<T>(args, 4);
  T *d_gates = output<T>(args, 0), *dh = output<T>(args, 1);
  const int64_t H = q.hidden;
  std::copy_n(input<T>(args, 1), q.state(), dh);
  for (int64_t s = q.steps; s-- > 0;) {
    for (int64_t b = 0; b < q.batch; ++b) {
      T* d = q.rows(d_gates, s, H) + b * H;
      for (int64_t j = 0; j < H; ++j) {
        const T D = q.rows(dy, s, H)[b * H + j] + dh[b * H + j], v = q.rows(y, s, H)[b * H + j];
        d[j] = q.relu ? (v > T(0) ? D : T(0)) : D * one_less_square(v);
      }
      for (int64_t j = 0; j < H; ++j) dh[b * H + j] = chain(T(0), d, w + j, H, H);
    }
  }
  weight_gradient(q, d_gates, H, H, h0, y, output<T>(args, 2));
}

// `width`: how many times the hidden size the last axis of input 0 is.
#define DLCORE_BIND(name, width)                                             \
  BoundKernel bind_##name(const KernelSpec& spec) {                          \
    return for_float(spec, [&](auto zero) -> BoundKernel {                   \
      if (numel(spec.outputs[1].shape) == 0) return {[](const RunArgs&) {}}; \
      const Sequence q = sequence_of(spec, width);                           \
      return {[=](const RunArgs& args) { name<decltype(zero)>(args, q); }};  \
    });                                                                      \
  }
DLCORE_BIND(lstm, 4)
DLCORE_BIND(gru, 3)
DLCORE_BIND(rnn, 1)
#undef DLCORE_BIND

// With no rows the weight's gradient is still there, as zeros.
#define DLCORE_BIND(name)                                                   \
  BoundKernel bind_##name(const KernelSpec& spec) {                         \
    return for_float(spec, [&](auto zero) -> BoundKernel {                  \
      const Sequence q = sequence_of(spec, 1);                              \
      return {[=](const RunArgs& args) { name<decltype(zero)>(args, q); }}; \
    });                                                                     \
  }
DLCORE_BIND(lstm_backward)
DLCORE_BIND(gru_backward)
DLCORE_BIND(rnn_backward)
#undef DLCORE_BIND

}  // namespace

void register_ref_rnn(Registry& r) {
  r.add("ref", 0, "lstm", bind_lstm);
  r.add("ref", 0, "gru", bind_gru);
  r.add("ref", 0, "rnn", bind_rnn);
  r.add("ref", 0, "lstm_backward", bind_lstm_backward);
  r.add("ref", 0, "gru_backward", bind_gru_backward);
  r.add("ref", 0, "rnn_backward", bind_rnn_backward);
}

}  // namespace dlcore
