#include "base/cpu.h"
#include "kernels/registry.h"

#if defined(__x86_64__)
#include "kernels/cpu/bind_epilogue.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/past.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

using cpu::Behind, cpu::bind_alone, cpu::bind_with_epilogue;

bool serves(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref) return false;
  for (const TensorType& t : spec.inputs)
    if (t.dtype != DType::F32) return false;
  return true;
}

int64_t product(const Shape& shape, size_t from, size_t to) {
  int64_t n = 1;
  for (size_t i = from; i < to; ++i) n *= shape[i];
  return n;
}

const float* input(const RunArgs& args, int i) { return static_cast<const float*>(args.in[i]); }
float* output(const RunArgs& args, int i) { return static_cast<float*>(args.out[i]); }

LayerNormArgs layer_norm_args(const KernelSpec& spec) {
  const Shape& shape = spec.inputs[0].shape;
  const size_t lead = shape.size() - static_cast<size_t>(spec.attrs.integer("dims"));
  LayerNormArgs a = {};
  a.rows = product(shape, 0, lead);
  a.width = product(shape, lead, shape.size());
  a.eps = static_cast<float>(spec.attrs.real_or("eps", 0.0));
  return a;
}

BoundKernel bind_layer_norm(const KernelSpec& spec, const Behind& behind) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::layer_norm_table : avx2::layer_norm_table).forward;
  const LayerNormArgs base = layer_norm_args(spec);
  return {[run, behind, base, past = cpu::Past(base.rows, base.width)](const RunArgs& args) {
            const auto then = behind.bind(args);
            LayerNormArgs a = base;
            a.x = input(args, 0);
            a.gamma = input(args, 1);
            a.beta = input(args, 2);
            a.y = output(args, 0);
            a.mean = output(args, behind.results);
            a.rstd = output(args, behind.results + 1);
            a.epilogue = then.get();
            a.past = !a.epilogue && past(a.y, {a.x});
            run(a);
          },
          behind.workspace()};
}

BoundKernel bind_layer_norm_backward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::layer_norm_table : avx2::layer_norm_table).backward;
  const LayerNormArgs base = layer_norm_args(spec);
  return {[run, base, past = cpu::Past(base.rows, base.width)](const RunArgs& args) {
            LayerNormArgs a = base;
            a.dy = input(args, 0);
            a.x = input(args, 1);
            a.gamma = input(args, 2);
            a.mean = const_cast<float*>(input(args, 3));
            a.rstd = const_cast<float*>(input(args, 4));
            a.dx = output(args, 0);
            a.dgamma = output(args, 1);
            a.dbeta = output(args, 2);
            a.workspace = static_cast<float*>(args.workspace);
            a.past = past(a.dx, {a.dy, a.x});
            run(a);
          },
          sizeof(float) * static_cast<size_t>(layer_norm_workspace(base.rows, base.width))};
}

BoundKernel bind_rms_norm(const KernelSpec& spec, const Behind& behind) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::layer_norm_table : avx2::layer_norm_table).rms_forward;
  const LayerNormArgs base = layer_norm_args(spec);
  return {[run, behind, base, past = cpu::Past(base.rows, base.width)](const RunArgs& args) {
            const auto then = behind.bind(args);
            LayerNormArgs a = base;
            a.x = input(args, 0);
            a.gamma = input(args, 1);
            a.y = output(args, 0);
            a.rstd = output(args, behind.results);
            a.epilogue = then.get();
            a.past = !a.epilogue && past(a.y, {a.x});
            run(a);
          },
          behind.workspace()};
}

BoundKernel bind_rms_norm_backward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::layer_norm_table : avx2::layer_norm_table).rms_backward;
  const LayerNormArgs base = layer_norm_args(spec);
  return {[run, base, past = cpu::Past(base.rows, base.width)](const RunArgs& args) {
            LayerNormArgs a = base;
            a.dy = input(args, 0);
            a.x = input(args, 1);
            a.gamma = input(args, 2);
            a.rstd = const_cast<float*>(input(args, 3));
            a.dx = output(args, 0);
            a.dgamma = output(args, 1);
            a.workspace = static_cast<float*>(args.workspace);
            a.past = past(a.dx, {a.dy, a.x});
            run(a);
          },
          sizeof(float) * static_cast<size_t>(layer_norm_workspace(base.rows, base.width))};
}

BatchNormArgs batch_norm_args(const KernelSpec& spec) {
  const Shape& shape = spec.inputs[0].shape;
  const int rank = static_cast<int>(shape.size());
  const size_t axis = static_cast<size_t>(normalize_axis(spec.attrs.integer("axis"), rank, spec.op.c_str()));
  BatchNormArgs a = {};
  a.outer = product(shape, 0, axis);
  a.channels = shape[axis];
  a.inner = product(shape, axis + 1, shape.size());
  a.eps = static_cast<float>(spec.attrs.real("eps"));
  return a;
}

size_t workspace_of(const BatchNormArgs& a) {
  return sizeof(float) * static_cast<size_t>(batch_norm_workspace(a.outer * a.inner, a.channels));
}

BoundKernel bind_batch_norm(const KernelSpec& spec, const Behind& behind) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::batch_norm_table : avx2::batch_norm_table).forward;
  const BatchNormArgs base = batch_norm_args(spec);
  const size_t own = (workspace_of(base) + 63) / 64 * 64;
  return {[run, behind, base, own](const RunArgs& args) {
            const auto then = behind.bind(args, own);
            BatchNormArgs a = base;
            a.x = input(args, 0);
            a.gamma = input(args, 1);
            a.beta = input(args, 2);
            a.y = output(args, 0);
            a.mean = output(args, behind.results);
            a.var = output(args, behind.results + 1);
            a.workspace = static_cast<float*>(args.workspace);
            a.epilogue = then.get();
            run(a);
          },
          own + behind.workspace()};
}

BoundKernel bind_batch_norm_backward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::batch_norm_table : avx2::batch_norm_table).backward;
  const BatchNormArgs base = batch_norm_args(spec);
  return {[run, base](const RunArgs& args) {
            BatchNormArgs a = base;
            a.dy = input(args, 0);
            a.x = input(args, 1);
            a.gamma = input(args, 2);
            a.mean = const_cast<float*>(input(args, 3));
            a.var = const_cast<float*>(input(args, 4));
            a.dx = output(args, 0);
            a.dgamma = output(args, 1);
            a.dbeta = output(args, 2);
            a.workspace = static_cast<float*>(args.workspace);
            run(a);
          },
          workspace_of(base)};
}

}  // namespace

void register_cpu_norm(Registry& r) {
  r.add("cpu", 10, "layer_norm", bind_alone<bind_layer_norm>);
  r.add("cpu", 10, "layer_norm_fused", bind_with_epilogue<bind_layer_norm>);
  r.add("cpu", 10, "layer_norm_backward", bind_layer_norm_backward);
  r.add("cpu", 10, "rms_norm", bind_alone<bind_rms_norm>);
  r.add("cpu", 10, "rms_norm_fused", bind_with_epilogue<bind_rms_norm>);
  r.add("cpu", 10, "rms_norm_backward", bind_rms_norm_backward);
  r.add("cpu", 10, "batch_norm", bind_alone<bind_batch_norm>);
  r.add("cpu", 10, "batch_norm_fused", bind_with_epilogue<bind_batch_norm>);
  r.add("cpu", 10, "batch_norm_backward", bind_batch_norm_backward);
}
#else
void register_cpu_norm(Registry&) {}
#endif

}  // namespace dlcore
