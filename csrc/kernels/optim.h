// The optimizers' updates (docs/ops.md), as templates over an arithmetic A with a value type A::V, A::fma, A::sqrt and
// A::number: vectors in cpu/, float and double in ref/, so that all round alike. The scalars are worked out in double
// and rounded once.
#pragma once
#include <stdint.h>

namespace dlcore::optim {

template <class T>
struct Sgd {
  T lr, momentum, undamped, weight_decay;  // undamped: 1 - dampening
  bool first, nesterov;                    // first: step 1, when the momentum is the gradient
};

template <class T>
struct Adam {
  T beta1, rest1, beta2, rest2, eps, weight_decay, keep, rate, scale;
  bool decoupled;
};

inline double power(double x, int64_t n) {  // by squaring: the same bits with any mathematics library
  double result = 1;
  for (; n > 0; n >>= 1, x *= x)
    if (n & 1) result *= x;
  return result;
}

struct AdamOptions {
  double beta1, beta2, eps, weight_decay;
  bool decoupled;
};

template <class T>
Adam<T> adam_scalars(const AdamOptions& o, T lr, int64_t step, double (*root)(double)) {
  const double c1 = 1 - power(o.beta1, step), c2 = 1 - power(o.beta2, step);
  return {T(o.beta1),
          T(1 - o.beta1),
          T(o.beta2),
          T(1 - o.beta2),
          T(o.eps),
          T(o.weight_decay),
          T(1 - lr * o.weight_decay),
          T(-(lr / c1)),
          T(1 / root(c2)),
          o.decoupled};
}

template <class A, class V = typename A::V, class T>
inline __attribute__((always_inline)) void sgd(const Sgd<T>& o, V& p, V g, V& m) {
  g = A::fma(A::number(o.weight_decay), p, g);
  m = o.first ? g : A::fma(A::number(o.momentum), m, A::number(o.undamped) * g);
  p = A::fma(A::number(-o.lr), o.nesterov ? A::fma(A::number(o.momentum), m, g) : m, p);
}

template <class A, class V = typename A::V, class T>
inline __attribute__((always_inline)) void sgd_plain(const Sgd<T>& o, V& p, V g) {
  p = A::fma(A::number(-o.lr), A::fma(A::number(o.weight_decay), p, g), p);
}

template <class A, class V = typename A::V, class T>
inline __attribute__((always_inline)) void adam(const Adam<T>& o, V& p, V g, V& m, V& v) {
  if (o.decoupled)
    p = p * A::number(o.keep);
  else
    g = A::fma(A::number(o.weight_decay), p, g);
  m = A::fma(A::number(o.beta1), m, A::number(o.rest1) * g);
  v = A::fma(A::number(o.beta2), v, (A::number(o.rest2) * g) * g);
  p = A::fma(A::number(o.rate), m / A::fma(A::sqrt(v), A::number(o.scale), A::number(o.eps)), p);
}

}  // namespace dlcore::optim
