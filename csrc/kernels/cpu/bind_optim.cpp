#include "base/cpu.h"
#include "kernels/cpu/optim.h"
#include "kernels/optim_spec.h"

namespace dlcore {

void register_cpu_optim(Registry& registry);

#if defined(__x86_64__)
namespace {

const OptimTable* table_for(const KernelSpec& spec) {
  if (spec.inputs[0].dtype != DType::F32) return nullptr;
  switch (current_isa()) {
    case Isa::Avx512:
      return &avx512::optim_table;
    case Isa::Avx2:
      return &avx2::optim_table;
    default:
      return nullptr;
  }
}

OptimArgs arguments(const OptimSpec& s, const RunArgs& r, int moments) {
  const auto in = [&](int i) { return static_cast<const float*>(r.in[i]); };
  const auto out = [&](int i) { return static_cast<float*>(r.out[i]); };
  return {in(0),
          in(1),
          moments > 0 ? in(2) : nullptr,
          moments > 1 ? in(3) : nullptr,
          out(0),
          moments > 0 ? out(1) : nullptr,
          moments > 1 ? out(2) : nullptr,
          s.n};
}

BoundKernel bind_sgd_plain(const KernelSpec& spec) {
  const OptimTable* table = table_for(spec);
  if (!table) return {};
  return {[s = OptimSpec(spec), table](const RunArgs& r) { table->sgd_plain(arguments(s, r, 0), s.sgd<float>(r, 2)); }};
}

BoundKernel bind_sgd(const KernelSpec& spec) {
  const OptimTable* table = table_for(spec);
  if (!table) return {};
  return {[s = OptimSpec(spec), table](const RunArgs& r) { table->sgd(arguments(s, r, 1), s.sgd<float>(r, 3, 4)); }};
}

BoundKernel bind_adam(const KernelSpec& spec) {
  const OptimTable* table = table_for(spec);
  if (!table) return {};
  return {[s = OptimSpec(spec), table](const RunArgs& r) { table->adam(arguments(s, r, 2), s.adam_at<float>(r)); }};
}

}  // namespace

void register_cpu_optim(Registry& registry) {
  registry.add("cpu", 10, "sgd_plain_update", bind_sgd_plain);
  registry.add("cpu", 10, "sgd_update", bind_sgd);
  registry.add("cpu", 10, "adam_update", bind_adam);
}
#else
void register_cpu_optim(Registry&) {}
#endif

}  // namespace dlcore
