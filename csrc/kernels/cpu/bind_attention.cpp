#include "base/cpu.h"
#include "kernels/attention_spec.h"
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

template <class T>
AttentionRows<T> rows(T* data, const HeadRows& r) {
  return {data + r.offset, r.batch, r.head, r.row};
}

AttentionArgs arguments(const AttentionSpec& s) {
  AttentionArgs a = {};
  a.heads = s.batch * s.heads;
  a.heads_a_batch = s.heads;
  a.queries = s.queries;
  a.keys = s.keys;
  a.size = s.width;
  a.scale = static_cast<float>(s.scale);
  a.causal = s.causal;
  a.k.row = s.k.row, a.v.row = s.v.row, a.dk.row = s.dk.row, a.dv.row = s.dv.row;
  a.mask.row = s.mask_rows.row;
  return a;
}

BoundKernel bind_attention(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::attention_table : avx2::attention_table).forward;
  const AttentionSpec s = attention_spec(spec);
  const AttentionArgs base = arguments(s);
  return {[run, base, s](const RunArgs& args) {
            AttentionArgs a = base;
            a.q = rows(input(args, 0), s.q);
            a.k = rows(input(args, 1), s.k);
            a.v = rows(input(args, 2), s.v);
            if (s.mask >= 0) a.mask = rows(input(args, s.mask), s.mask_rows);
            a.out = rows(output(args, 0), s.out);
            a.lse = output(args, 1);
            a.workspace = static_cast<float*>(args.workspace);
            run(a);
          },
          sizeof(float) * static_cast<size_t>(attention_workspace(base, false))};
}

BoundKernel bind_attention_backward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const auto run = (current_isa() == Isa::Avx512 ? avx512::attention_table : avx2::attention_table).backward;
  const AttentionSpec s = attention_spec(spec);
  const AttentionArgs base = arguments(s);
  return {[run, base, s](const RunArgs& args) {
            AttentionArgs a = base;
            a.dout = rows(input(args, 0), s.dout);
            a.q = rows(input(args, 1), s.q);
            a.k = rows(input(args, 2), s.k);
            a.v = rows(input(args, 3), s.v);
            a.out = rows(const_cast<float*>(input(args, 4)), s.out);
            a.lse = const_cast<float*>(input(args, 5));
            if (s.mask >= 0) a.mask = rows(input(args, s.mask), s.mask_rows);
            a.dq = rows(output(args, s.into[0]), s.dq);
            a.dk = rows(output(args, s.into[1]), s.dk);
            a.dv = rows(output(args, s.into[2]), s.dv);
            a.workspace = static_cast<float*>(args.workspace);
            run(a);
          },
          sizeof(float) * static_cast<size_t>(attention_workspace(base, true))};
}

}  // namespace

void register_cpu_attention(Registry& r) {
  r.add("cpu", 10, "attention", bind_attention);
  r.add("cpu", 10, "attention_backward", bind_attention_backward);
  r.add("cpu", 10, "attention_strided", bind_attention);
  r.add("cpu", 10, "attention_strided_backward", bind_attention_backward);
}
#else
void register_cpu_attention(Registry&) {}
#endif

}  // namespace dlcore
