// Random numbers and dropout, one word of Philox at a time.
#include "kernels/random_spec.h"
#include "kernels/scalar.h"
// After scalar.h, which says at what width.
#include "kernels/box_muller.h"

namespace dlcore {

namespace {

uint32_t word(RandomState state, uint32_t site, int64_t i) {
  return philox(state.seed, static_cast<uint64_t>(i / 4), site, state.step)[static_cast<size_t>(i % 4)];
}
float uniform(RandomState state, uint32_t site, int64_t i) { return uniform_from_bits(word(state, site, i)); }

BoundKernel bind_uniform(const KernelSpec& spec) {
  const double low = spec.attrs.real("low"), high = spec.attrs.real("high");
  return {[site = random_site(spec), n = numel(spec.outputs[0].shape), low = static_cast<float>(low),
           range = static_cast<float>(high - low)](const RunArgs& args) {
    const RandomState state = random_state(args.in[0]);
    float* out = static_cast<float*>(args.out[0]);
    for (int64_t i = 0; i < n; ++i) out[i] = std::fma(range, uniform(state, site, i), low);
  }};
}

BoundKernel bind_normal(const KernelSpec& spec) {
  return {[site = random_site(spec), n = numel(spec.outputs[0].shape)](const RunArgs& args) {
    const RandomState state = random_state(args.in[0]);
    float* out = static_cast<float*>(args.out[0]);
    for (int64_t i = 0; i < n; i += 2) {
      float a, b;
      scalar::box_muller(uniform(state, site, i), uniform(state, site, i + 1), a, b);
      out[i] = a;
      if (i + 1 < n) out[i + 1] = b;
    }
  }};
}

template <class T>
BoundKernel dropout(const KernelSpec& spec) {
  const double p = spec.attrs.real("p");
  return {[site = random_site(spec), s = dropout_spec(spec), n = numel(spec.outputs[0].shape),
           p = static_cast<float>(p), scale = static_cast<T>(1.0 / (1.0 - p))](const RunArgs& args) {
    const RandomState state = random_state(args.in[1]);
    const T* x = static_cast<const T*>(args.in[0]);
    T* out = static_cast<T*>(args.out[0]);
    for (int64_t i = 0; i < n; ++i) {
      int64_t number = i;
      if (s.channels_last) {
        const int64_t c = i % s.channels, pixel = i / s.channels;
        number = (pixel / s.pixels * s.channels + c) * s.pixels + pixel % s.pixels;
      }
      out[i] = uniform(state, site, number) >= p ? x[i] * scale : T(0);
    }
  }};
}

BoundKernel bind_dropout(const KernelSpec& spec) {
  if (spec.inputs[0].dtype == DType::F32) return dropout<float>(spec);
  if (spec.inputs[0].dtype == DType::F64) return dropout<double>(spec);
  return {};
}

}  // namespace

void register_ref_random(Registry& r) {
  r.add("ref", 0, "random_uniform", bind_uniform);
  r.add("ref", 0, "random_normal", bind_normal);
  r.add("ref", 0, "dropout", bind_dropout);
}

}  // namespace dlcore
