#include "base/cpu.h"
#include "kernels/registry.h"

#if defined(__x86_64__)
#include "kernels/cpu/bind_epilogue.h"
#include "kernels/cpu/group_norm.h"
#endif

namespace dlcore {

void register_cpu_group_norm(Registry& registry);

#if defined(__x86_64__)
namespace {

const float* input(const RunArgs& args, int i) { return static_cast<const float*>(args.in[i]); }
float* output(const RunArgs& args, int i) { return static_cast<float*>(args.out[i]); }

const GroupNormTable* table(const KernelSpec& spec) {
  const Isa isa = current_isa();
  if (isa == Isa::Ref || spec.inputs[0].dtype != DType::F32) return nullptr;
  return isa == Isa::Avx512 ? &avx512::group_norm_table : &avx2::group_norm_table;
}

GroupNormArgs base_args(const KernelSpec& spec) {
  const Shape& shape = spec.inputs[0].shape;
  GroupNormArgs a = {};
  a.images = shape[0];
  a.groups = spec.attrs.integer("groups");
  a.channels = shape[1] / a.groups;
  a.rest = 1;
  for (size_t i = 2; i < shape.size(); ++i) a.rest *= shape[i];
  return a;
}

BoundKernel bind_group_norm(const KernelSpec& spec, const cpu::Behind& behind) {
  const GroupNormTable* kernels = table(spec);
  if (!kernels) return {};
  GroupNormArgs base = base_args(spec);
  base.eps = static_cast<float>(spec.attrs.real("eps"));
  return {[run = kernels->forward, behind, base](const RunArgs& args) {
            const auto then = behind.bind(args);
            GroupNormArgs a = base;
            a.x = input(args, 0);
            a.gamma = input(args, 1);
            a.beta = input(args, 2);
            a.y = output(args, 0);
            a.mean = output(args, behind.results);
            a.rstd = output(args, behind.results + 1);
            a.epilogue = then.get();
            run(a);
          },
          behind.workspace()};
}

BoundKernel bind_group_norm_backward(const KernelSpec& spec) {
  const GroupNormTable* kernels = table(spec);
  if (!kernels) return {};
  const GroupNormArgs base = base_args(spec);
  return {[run = kernels->backward, base](const RunArgs& args) {
            GroupNormArgs a = base;
            a.dy = input(args, 0);
            a.x = input(args, 1);
            a.gamma = input(args, 2);
            a.mean = const_cast<float*>(input(args, 3));
            a.rstd = const_cast<float*>(input(args, 4));
            a.dx = output(args, 0);
            a.dgamma = output(args, 1);
            a.dbeta = output(args, 2);
            a.sums = static_cast<float*>(args.workspace);
            run(a);
          },
          sizeof(float) * 2 * static_cast<size_t>(base.images * base.groups * base.channels)};
}

}  // namespace

void register_cpu_group_norm(Registry& r) {
  r.add("cpu", 10, "group_norm", cpu::bind_alone<bind_group_norm>);
  r.add("cpu", 10, "group_norm_fused", cpu::bind_with_epilogue<bind_group_norm>);
  r.add("cpu", 10, "group_norm_backward", bind_group_norm_backward);
}
#else
void register_cpu_group_norm(Registry&) {}
#endif

}  // namespace dlcore
