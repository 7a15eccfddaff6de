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

// The mask of channels-last images is that of the same images with channels first: element (n, s, c) of them draws
// number (n·channels + c)·pixels + s.
struct DropoutSpec {
  bool channels_last;
  int64_t channels, pixels;
};
inline DropoutSpec dropout_spec(const KernelSpec& spec) {
  const Shape& x = spec.inputs[0].shape;
  DropoutSpec s{spec.attrs.integer_or("channels_last", 0) != 0 && x.size() >= 3, 1, 1};
  if (!s.channels_last) return s;
  s.channels = x.back();
  for (size_t i = 1; i + 1 < x.size(); ++i) s.pixels *= x[i];
  return s;
}

inline uint32_t random_site(const KernelSpec& spec) { return static_cast<uint32_t>(spec.attrs.integer("site")); }

}  // namespace dlcore
