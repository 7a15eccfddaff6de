// Reads an optimizer op's attributes and, at each run, its scalar inputs, for ref/ and cpu/ alike.
#pragma once
#include <cmath>

#include "kernels/optim.h"
#include "kernels/registry.h"

namespace dlcore {

struct OptimSpec {
  int64_t n;
  double momentum, dampening, weight_decay;
  bool nesterov;
  optim::AdamOptions adam;

  explicit OptimSpec(const KernelSpec& spec) : n(1) {
    for (int64_t d : spec.inputs[0].shape) n *= d;
    const Attrs& a = spec.attrs;
    momentum = a.real_or("momentum", 0);
    dampening = a.real_or("dampening", 0);
    weight_decay = a.real_or("weight_decay", 0);
    nesterov = a.integer_or("nesterov", 0) != 0;
    adam = {a.real_or("beta1", 0.9), a.real_or("beta2", 0.999), a.real_or("eps", 1e-8), weight_decay,
            a.integer_or("decoupled", 0) != 0};
  }

  // `lr` and, where the op has one, `step` are the inputs at these places.
  template <class T>
  optim::Sgd<T> sgd(const RunArgs& r, int lr, int step = -1) const {
    const int64_t count = step < 0 ? 0 : *static_cast<const int64_t*>(r.in[step]);
    return {*static_cast<const T*>(r.in[lr]), T(momentum), T(1 - dampening), T(weight_decay), count == 1, nesterov};
  }
  template <class T>
  optim::Adam<T> adam_at(const RunArgs& r) const {
    return optim::adam_scalars<T>(adam, *static_cast<const T*>(r.in[4]), *static_cast<const int64_t*>(r.in[5]),
                                  std::sqrt);
  }
};

}  // namespace dlcore
