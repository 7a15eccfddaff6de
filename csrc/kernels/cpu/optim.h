// The optimizers' updates in f32: arguments and table of the vectorised kernels.
#pragma once
#include <stdint.h>

namespace dlcore {

struct OptimArgs {
  const float *p, *g, *m, *v;
  float *p_out, *m_out, *v_out;
  int64_t n;
  float lr;              // Adam: divided by 1 - beta1^step
  float weight_decay;    // Adam, decoupled: 1 - lr·weight_decay
  float momentum, rest;  // sgd: rest = 1 - dampening
  float beta1, rest1, beta2, rest2, eps, second_scale;
  bool first, nesterov, decoupled;
};

struct OptimTable {
  void (*sgd_plain)(const OptimArgs&);
  void (*sgd)(const OptimArgs&);
  void (*adam)(const OptimArgs&);
};

namespace avx2 {
extern const OptimTable optim_table;
}
namespace avx512 {
extern const OptimTable optim_table;
}

}  // namespace dlcore
