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
  int64_t channels, pixels;  // dropout of channels-last images (random_spec.h): n < 2^32 elements
  float low, range;          // uniform
  float p, keep_scale;       // dropout
};

struct RandomTable {
  void (*uniform)(const RandomArgs&);
  void (*normal)(const RandomArgs&);
  void (*dropout)(const RandomArgs&);
  void (*dropout_images)(const RandomArgs&);
};

namespace avx2 {
extern const RandomTable random_table;
}
namespace avx512 {
extern const RandomTable random_table;
}

}  // namespace dlcore
