#include "base/cpu.h"
#include "kernels/cpu/random.h"
#include "kernels/random_spec.h"

namespace dlcore {

void register_cpu_random(Registry& registry);

#if defined(__x86_64__)
namespace {

const RandomTable* table_for(const KernelSpec& spec) {
  if (spec.outputs[0].dtype != DType::F32) return nullptr;
  switch (current_isa()) {
    case Isa::Avx512:
      return &avx512::random_table;
    case Isa::Avx2:
      return &avx2::random_table;
    default:
      return nullptr;
  }
}

RandomArgs arguments(const RandomSpec& s, const void* rng, const void* x, void* out) {
  const RandomKey key(s, rng);
  return {key.seed, key.site, key.step, s.n, static_cast<const float*>(x), static_cast<float*>(out), 0, 0};
}

BoundKernel bind_uniform(const KernelSpec& spec) {
  const RandomTable* table = table_for(spec);
  if (!table) return {};
  return {[s = RandomSpec(spec), table](const RunArgs& r) {
    RandomArgs a = arguments(s, r.in[0], nullptr, r.out[0]);
    a.a = static_cast<float>(s.low);
    a.b = static_cast<float>(s.high - s.low);
    table->uniform(a);
  }};
}

BoundKernel bind_normal(const KernelSpec& spec) {
  const RandomTable* table = table_for(spec);
  if (!table) return {};
  return {[s = RandomSpec(spec), table](const RunArgs& r) { table->normal(arguments(s, r.in[0], nullptr, r.out[0])); }};
}

BoundKernel bind_dropout(const KernelSpec& spec) {
  const RandomTable* table = table_for(spec);
  if (!table) return {};
  return {[s = RandomSpec(spec), table](const RunArgs& r) {
    RandomArgs a = arguments(s, r.in[1], r.in[0], r.out[0]);
    a.a = static_cast<float>(s.p);
    a.b = static_cast<float>(s.scale());
    table->dropout(a);
  }};
}

}  // namespace

void register_cpu_random(Registry& registry) {
  registry.add("cpu", 10, "random_uniform", bind_uniform);
  registry.add("cpu", 10, "random_normal", bind_normal);
  registry.add("cpu", 10, "dropout", bind_dropout);
}
#else
void register_cpu_random(Registry&) {}
#endif

}  // namespace dlcore
