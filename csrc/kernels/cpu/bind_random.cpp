#include "base/cpu.h"
#include "kernels/random_spec.h"

#if defined(__x86_64__)
#include "kernels/cpu/random.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

template <void (*RandomTable::*member)(const RandomArgs&), bool drops>
BoundKernel bind(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref || spec.outputs[0].dtype != DType::F32) return {};
  RandomArgs a = {};
  a.site = random_site(spec);
  a.n = numel(spec.outputs[0].shape);
  const double low = spec.attrs.real_or("low", 0), high = spec.attrs.real_or("high", 1), p = spec.attrs.real_or("p", 0);
  a.low = static_cast<float>(low);
  a.range = static_cast<float>(high - low);
  a.p = static_cast<float>(p);
  a.keep_scale = static_cast<float>(1.0 / (1.0 - p));
  if constexpr (drops) {
    const DropoutSpec s = dropout_spec(spec);
    if (s.channels_last && a.n >= int64_t{1} << 32) return {};
    a.channels = s.channels;
    a.pixels = s.pixels;
  }
  const RandomTable& table = current_isa() == Isa::Avx512 ? avx512::random_table : avx2::random_table;
  return {[run = table.*member, base = a](const RunArgs& args) {
    RandomArgs a = base;
    const RandomState state = random_state(args.in[drops ? 1 : 0]);
    a.seed = state.seed;
    a.step = state.step;
    if (drops) a.x = static_cast<const float*>(args.in[0]);
    a.out = static_cast<float*>(args.out[0]);
    run(a);
  }};
}

BoundKernel bind_dropout(const KernelSpec& spec) {
  return dropout_spec(spec).channels_last ? bind<&RandomTable::dropout_images, true>(spec)
                                          : bind<&RandomTable::dropout, true>(spec);
}

}  // namespace

void register_cpu_random(Registry& r) {
  r.add("cpu", 10, "random_uniform", bind<&RandomTable::uniform, false>);
  r.add("cpu", 10, "random_normal", bind<&RandomTable::normal, false>);
  r.add("cpu", 10, "dropout", bind_dropout);
}
#else
void register_cpu_random(Registry&) {}
#endif

}  // namespace dlcore
