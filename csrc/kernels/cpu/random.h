// Random numbers in float32: arguments and tables of the per-ISA code.
#pragma once
#include <cstdint>

namespace dlcore {

struct RandomArgs {
  uint64_t seed;
  uint32_t site, step;
  int64_t n;
  const float* x;  // dropout's input, which may be `out`
  float* out;
  float a, b;  // uniform: low, range; dropout: p, scale
};

struct RandomTable {
  void (*uniform)(const RandomArgs& args);
  void (*normal)(const RandomArgs& args);
  void (*dropout)(const RandomArgs& args);
};

namespace avx2 {
extern const RandomTable random_table;
}
namespace avx512 {
extern const RandomTable random_table;
}

}  // namespace dlcore
