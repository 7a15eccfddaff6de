// What the processor can do at most, for benchmarks to hold kernels against.
#pragma once
#include <stdint.h>

namespace dlcore {

struct MeasureTable {
  // `steps` rounds of fused multiply-adds in independent chains; returns how many floating-point operations that was.
  // The result goes to `sink`, so that nothing is left out.
  int64_t (*fma_chains)(int64_t steps, float* sink);
};

namespace avx2 {
extern const MeasureTable measure_table;
}
namespace avx512 {
extern const MeasureTable measure_table;
}

}  // namespace dlcore
