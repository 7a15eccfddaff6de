#include "runtime/measure.h"

#include <algorithm>
#include <chrono>

#include "base/cpu.h"
#include "kernels/cpu/measure.h"

namespace dlcore {

double fma_peak() {
#if defined(__x86_64__)
  if (current_isa() == Isa::Ref) return 0;
  const MeasureTable& table = current_isa() == Isa::Avx512 ? avx512::measure_table : avx2::measure_table;
  double best = 0;
  float sink = 0;
  for (int run = 0; run < 20; ++run) {
    const auto start = std::chrono::steady_clock::now();
    const auto operations = static_cast<double>(table.fma_chains(1000000, &sink));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, operations / took.count());
  }
  return best;
#else
  return 0;
#endif
}

}  // namespace dlcore
