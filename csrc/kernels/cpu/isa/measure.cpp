#include "kernels/cpu/measure.h"

#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {
namespace {

// Ten chains: two units with a latency of four or five cycles stay busy.
constexpr int kChains = 10;

int64_t fma_chains(int64_t steps, float* sink) {
  VF chain[kChains];
#pragma GCC unroll 10
  for (int i = 0; i < kChains; ++i) chain[i] = splat(1.0f + 0.01f * static_cast<float>(i));
  const VF shrink = splat(0.999f), grow = splat(0.001f);
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 10
    for (int i = 0; i < kChains; ++i) chain[i] = fma(chain[i], shrink, grow);
  }
#pragma GCC unroll 10
  for (int i = 1; i < kChains; ++i) chain[0] = chain[0] + chain[i];
  *sink = chain[0][0];
  return 2 * steps * kChains * W;
}

}  // namespace

const MeasureTable measure_table = {fma_chains};

}  // namespace dlcore::DLCORE_ISA
