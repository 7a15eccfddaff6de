#include "base/cpu.h"
#include "kernels/registry.h"

#if defined(__x86_64__)
#include "kernels/cpu/attention.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

bool serves(const KernelSpec& spec) { return current_isa() != Isa::Ref && spec.inputs[0].dtype == DType::F32; }

const float* input(const RunArgs& args, int i) { return static_cast<const float*>(args.in[i]); }
float* output(const RunArgs& args, int i) { return static_cast<float*>(args.out[i]); }

// The mask is the input after `last`, if any.
AttentionArgs arguments(const KernelSpec& spec, const Shape& q, const Shape& k, size_t last) {
  AttentionArgs a = {};
  a.heads = q[0] * q[1];
  a.queries = q[2];
  a.keys = k[2];
  a.size = q[3];
  a.scale = static_cast<float>(spec.attrs.real("scale"));
  a.causal = spec.attrs.integer_or("causal", 0) != 0;
  a.heads_a_batch = q[1];
  if (spec.inputs.size() > last + 1) {
    const Shape& m = spec.inputs[last + 1].shape;
    a.mask_query = m[2] == 1 ? 0 : a.keys;
    a.mask_head = m[1] == 1 ? 0 : m[2] * a.keys;
    a.mask_batch = m[0] == 1 ? 0 : m[1] * m[2] * a.keys;
  }
  return a;
}

BoundKernel bind_attention(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::attention_table : avx2::attention_table).forward;
  const AttentionArgs base = arguments(spec, spec.inputs[0].shape, spec.inputs[1].shape, 2);
  return {[run, base, masked = spec.inputs.size() > 3](const RunArgs& args) {
            AttentionArgs a = base;
            a.q = input(args, 0);
            a.k = input(args, 1);
            a.v = input(args, 2);
            if (masked) a.mask = input(args, 3);
            a.out = output(args, 0);
            a.lse = output(args, 1);
            a.workspace = static_cast<float*>(args.workspace);
            run(a);
          },
          sizeof(float) * static_cast<size_t>(attention_workspace(base, false))};
}

BoundKernel bind_attention_backward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::attention_table : avx2::attention_table).backward;
  const AttentionArgs base = arguments(spec, spec.inputs[1].shape, spec.inputs[2].shape, 5);
  return {[run, base, masked = spec.inputs.size() > 6](const RunArgs& args) {
            AttentionArgs a = base;
            a.dout = input(args, 0);
            a.q = input(args, 1);
            a.k = input(args, 2);
            a.v = input(args, 3);
            a.out = const_cast<float*>(input(args, 4));
            a.lse = const_cast<float*>(input(args, 5));
            if (masked) a.mask = input(args, 6);
            a.dq = output(args, 0);
            a.dk = output(args, 1);
            a.dv = output(args, 2);
            a.workspace = static_cast<float*>(args.workspace);
            run(a);
          },
          sizeof(float) * static_cast<size_t>(attention_workspace(base, true))};
}

}  // namespace

void register_cpu_attention(Registry& r) {
  r.add("cpu", 10, "attention", bind_attention);
  r.add("cpu", 10, "attention_backward", bind_attention_backward);
}
#else
void register_cpu_attention(Registry&) {}
#endif

}  // namespace dlcore
