// The optimizers' attributes, and Adam's scalars of a step.
#pragma once
#include <cmath>

#include "kernels/registry.h"

namespace dlcore {

struct OptimSpec {
  double momentum, dampening, weight_decay, beta1, beta2, eps;
  bool nesterov, decoupled;
};

inline OptimSpec optim_spec(const Attrs& attrs) {
  const auto real = [&](const char* name) { return attrs.real_or(name, 0.0); };
  return {real("momentum"),
          real("dampening"),
          real("weight_decay"),
          real("beta1"),
          real("beta2"),
          real("eps"),
          attrs.integer_or("nesterov", 0) != 0,
          attrs.integer_or("decoupled", 0) != 0};
}

// beta^step by repeated squaring, the same on every system.
inline double power(double beta, int64_t step) {
  double result = 1;
  for (uint64_t n = step > 0 ? static_cast<uint64_t>(step) : 0; n > 0; n >>= 1, beta *= beta)
    if (n & 1) result *= beta;
  return result;
}

template <class T>
struct AdamScalars {
  T decay;         // 1 - lr·weight_decay, or weight_decay
  T rate;          // lr / (1 - beta1^step)
  T second_scale;  // 1 / sqrt(1 - beta2^step)
};
template <class T>
AdamScalars<T> adam_scalars(const OptimSpec& s, T lr, int64_t step) {
  const double rate = static_cast<double>(lr);
  return {static_cast<T>(s.decoupled ? 1 - rate * s.weight_decay : s.weight_decay),
          static_cast<T>(rate / (1 - power(s.beta1, step))), static_cast<T>(1 / std::sqrt(1 - power(s.beta2, step)))};
}

}  // namespace dlcore
