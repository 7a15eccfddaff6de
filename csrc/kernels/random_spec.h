// The attributes and the state of the random ops.
#pragma once
#include "base/philox.h"
#include "kernels/registry.h"

namespace dlcore {

struct RandomState {
  uint64_t seed;
  uint32_t step;
};
inline RandomState random_state(const void* rng) {
  const auto* words = static_cast<const int64_t*>(rng);
  return {static_cast<uint64_t>(words[0]), static_cast<uint32_t>(words[1])};
}

inline uint32_t random_site(const KernelSpec& spec) { return static_cast<uint32_t>(spec.attrs.integer("site")); }

}  // namespace dlcore
