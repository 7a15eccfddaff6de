// The optimizers' updates in float32: arguments and tables of the per-ISA code.
#pragma once
#include <cstdint>

#include "kernels/optim.h"

namespace dlcore {

struct OptimArgs {
  const float *p, *g, *m, *v;    // m and v where the optimizer has them
  float *p_out, *m_out, *v_out;  // each may be its input
  int64_t n;
};

struct OptimTable {
  void (*sgd_plain)(const OptimArgs& args, const optim::Sgd<float>& o);
  void (*sgd)(const OptimArgs& args, const optim::Sgd<float>& o);
  void (*adam)(const OptimArgs& args, const optim::Adam<float>& o);
};

namespace avx2 {
extern const OptimTable optim_table;
}
namespace avx512 {
extern const OptimTable optim_table;
}

}  // namespace dlcore
