#include "base/cpu.h"
#include "kernels/optim_spec.h"

#if defined(__x86_64__)
#include "kernels/cpu/optim.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

const OptimTable& table() { return current_isa() == Isa::Avx512 ? avx512::optim_table : avx2::optim_table; }
bool serves(const KernelSpec& spec) { return current_isa() != Isa::Ref && spec.inputs[0].dtype == DType::F32; }

const float* input(const RunArgs& args, int i) { return static_cast<const float*>(args.in[i]); }
float* output(const RunArgs& args, int i) { return static_cast<float*>(args.out[i]); }

OptimArgs args_of(const KernelSpec& spec, const OptimSpec& s) {
  OptimArgs a = {};
  a.n = numel(spec.outputs[0].shape);
  a.weight_decay = static_cast<float>(s.weight_decay);
  a.momentum = static_cast<float>(s.momentum);
  a.rest = static_cast<float>(1 - s.dampening);
  a.beta1 = static_cast<float>(s.beta1);
  a.rest1 = static_cast<float>(1 - s.beta1);
  a.beta2 = static_cast<float>(s.beta2);
  a.rest2 = static_cast<float>(1 - s.beta2);
  a.eps = static_cast<float>(s.eps);
  a.nesterov = s.nesterov;
  a.decoupled = s.decoupled;
  return a;
}

BoundKernel bind_sgd_plain(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  return {[run = table().sgd_plain, base = args_of(spec, optim_spec(spec.attrs))](const RunArgs& args) {
    OptimArgs a = base;
    a.p = input(args, 0);
    a.g = input(args, 1);
    a.lr = *input(args, 2);
    a.p_out = output(args, 0);
    run(a);
  }};
}

BoundKernel bind_sgd(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  return {[run = table().sgd, base = args_of(spec, optim_spec(spec.attrs))](const RunArgs& args) {
    OptimArgs a = base;
    a.p = input(args, 0);
    a.g = input(args, 1);
    a.m = input(args, 2);
    a.lr = *input(args, 3);
    a.first = *static_cast<const int64_t*>(args.in[4]) == 1;
    a.p_out = output(args, 0);
    a.m_out = output(args, 1);
    run(a);
  }};
}

BoundKernel bind_adam(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const OptimSpec s = optim_spec(spec.attrs);
  return {[run = table().adam, base = args_of(spec, s), s](const RunArgs& args) {
    OptimArgs a = base;
    a.p = input(args, 0);
    a.g = input(args, 1);
    a.m = input(args, 2);
    a.v = input(args, 3);
    const AdamScalars<float> k = adam_scalars(s, *input(args, 4), *static_cast<const int64_t*>(args.in[5]));
    a.weight_decay = k.decay;
    a.lr = k.rate;
    a.second_scale = k.second_scale;
    a.p_out = output(args, 0);
    a.m_out = output(args, 1);
    a.v_out = output(args, 2);
    run(a);
  }};
}

}  // namespace

void register_cpu_optim(Registry& r) {
  r.add("cpu", 10, "sgd_plain_update", bind_sgd_plain);
  r.add("cpu", 10, "sgd_update", bind_sgd);
  r.add("cpu", 10, "adam_update", bind_adam);
}
#else
void register_cpu_optim(Registry&) {}
#endif

}  // namespace dlcore
