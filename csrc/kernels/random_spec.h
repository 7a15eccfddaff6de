// Reads the random ops' attributes, for ref/ and cpu/ alike. Element i takes word i % 4 of Philox block i / 4.
#pragma once
#include "base/philox.h"
#include "kernels/registry.h"

namespace dlcore {

struct RandomSpec {
  int64_t n;
  uint32_t site;
  double low, high, p;

  explicit RandomSpec(const KernelSpec& spec) : n(1) {
    for (int64_t d : spec.outputs[0].shape) n *= d;
    site = static_cast<uint32_t>(spec.attrs.integer("site"));
    low = spec.attrs.real_or("low", 0);
    high = spec.attrs.real_or("high", 1);
    p = spec.attrs.real_or("p", 0);
  }
  double scale() const { return p < 1 ? 1 / (1 - p) : 0; }
};

struct RandomKey {
  uint64_t seed;
  uint32_t site, step;
  RandomKey(const RandomSpec& spec, const void* rng)
      : seed(static_cast<uint64_t>(static_cast<const int64_t*>(rng)[0])),
        site(spec.site),
        step(static_cast<uint32_t>(static_cast<const int64_t*>(rng)[1])) {}
  PhiloxBlock block(int64_t i) const { return philox(seed, static_cast<uint64_t>(i), site, step); }
};

}  // namespace dlcore
