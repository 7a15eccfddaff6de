#include <cmath>

#include "kernels/random_spec.h"
#include "kernels/scalar.h"

namespace dlcore {

void register_ref_random(Registry& registry);

namespace {

// Calls body(i, uniform) for each element.
template <class F>
void for_each_uniform(const RandomSpec& s, const void* rng, F body) {
  const RandomKey key(s, rng);
  for (int64_t b = 0; 4 * b < s.n; ++b) {
    const PhiloxBlock words = key.block(b);
    for (int64_t i = 4 * b; i < s.n && i < 4 * b + 4; ++i)
      body(i, uniform_from_bits(words[static_cast<size_t>(i % 4)]));
  }
}

BoundKernel bind_uniform(const KernelSpec& spec) {
  return {[s = RandomSpec(spec)](const RunArgs& r) {
    float* out = static_cast<float*>(r.out[0]);
    const float low = static_cast<float>(s.low), range = static_cast<float>(s.high - s.low);
    for_each_uniform(s, r.in[0], [&](int64_t i, float u) { out[i] = std::fma(u, range, low); });
  }};
}

BoundKernel bind_normal(const KernelSpec& spec) {
  return {[s = RandomSpec(spec)](const RunArgs& r) {
    float* out = static_cast<float*>(r.out[0]);
    const RandomKey key(s, r.in[0]);
    for (int64_t b = 0; 4 * b < s.n; ++b) {
      const PhiloxBlock words = key.block(b);
      for (int pair = 0; pair < 4; pair += 2) {
        const float u1 = 1.0f - uniform_from_bits(words[static_cast<size_t>(pair)]);
        const float angle = 6.28318530717958648f * uniform_from_bits(words[static_cast<size_t>(pair) + 1]);
        const float radius = std::sqrt(-2.0f * scalar::log(u1));
        const float z[2] = {radius * scalar::cos(angle), radius * scalar::sin(angle)};
        for (int i = 0; i < 2; ++i)
          if (4 * b + pair + i < s.n) out[4 * b + pair + i] = z[i];
      }
    }
  }};
}

template <class T>
void dropout(const RandomSpec& s, const RunArgs& r) {
  const T* x = static_cast<const T*>(r.in[0]);
  T* out = static_cast<T*>(r.out[0]);
  const T scale = static_cast<T>(s.scale());
  const float p = static_cast<float>(s.p);
  for_each_uniform(s, r.in[1], [&](int64_t i, float u) { out[i] = u >= p ? x[i] * scale : T(0); });
}

BoundKernel bind_dropout(const KernelSpec& spec) {
  const DType dtype = spec.inputs[0].dtype;
  if (dtype != DType::F32 && dtype != DType::F64) return {};
  return {[s = RandomSpec(spec), run = dtype == DType::F32 ? dropout<float> : dropout<double>](const RunArgs& r) {
    run(s, r);
  }};
}

}  // namespace

void register_ref_random(Registry& registry) {
  registry.add("ref", 0, "random_uniform", bind_uniform);
  registry.add("ref", 0, "random_normal", bind_normal);
  registry.add("ref", 0, "dropout", bind_dropout);
}

}  // namespace dlcore
