// Counter-based random numbers and dropout, f32: arguments and table of the vectorised kernels.
#pragma once
#include <stdint.h>

namespace dlcore {

struct RandomArgs {
  uint64_t seed;
  uint32_t site, step;
  const float* x;  // dropout
  float* out;
  int64_t n;
  float low, range;     // uniform
  float p, keep_scale;  // dropout
};

struct RandomTable {
  void (*uniform)(const RandomArgs&);
  void (*normal)(const RandomArgs&);
  void (*dropout)(const RandomArgs&);
};

namespace avx2 {
extern const RandomTable random_table;
}
namespace avx512 {
extern const RandomTable random_table;
}

}  // namespace dlcore
