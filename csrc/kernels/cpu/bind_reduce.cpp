#include "base/cpu.h"
#include "base/error.h"
#include "kernels/reduce_spec.h"

#if defined(__x86_64__)
#include "kernels/cpu/reduce.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

const ReduceTable& table() { return current_isa() == Isa::Avx512 ? avx512::reduce_table : avx2::reduce_table; }
bool serves(const KernelSpec& spec) { return current_isa() != Isa::Ref && spec.inputs[0].dtype == DType::F32; }

ReduceAxes axes_of(const std::vector<ReduceAxis>& axes) {
  ReduceAxes a = {};
  for (const ReduceAxis& axis : axes) {
    a.size[a.rank] = axis.size;
    a.stride[a.rank++] = axis.stride;
  }
  return a;
}

template <void (*ReduceTable::*rows)(const ReduceArgs&), void (*ReduceTable::*columns)(const ReduceArgs&)>
BoundKernel bind_reduce(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const ReduceSpec r = reduce_spec(spec);
  // Nothing to do, or nothing to start from: rare, and ref says what it means.
  if (r.identity || r.outputs == 0 || r.count == 0 || r.tail == 0) return {};
  ReduceArgs a = {};
  a.kept = axes_of(r.kept);
  a.reduced = axes_of(r.reduced);
  a.outer = r.outputs / r.inner;
  a.count = r.count;
  a.tail = r.tail;
  a.inner = r.inner;
  const int64_t blocks = (r.count + kReduceBlock - 1) / kReduceBlock;
  const size_t workspace = r.last_reduced || blocks == 1 ? 0 : static_cast<size_t>(r.outputs * blocks) * sizeof(float);
  return {[run = r.last_reduced ? table().*rows : table().*columns, base = a](const RunArgs& args) {
            ReduceArgs a = base;
            a.x = static_cast<const float*>(args.in[0]);
            a.out = static_cast<float*>(args.out[0]);
            a.partial = static_cast<float*>(args.workspace);
            run(a);
          },
          workspace,
          {}};
}

template <void (*ReduceTable::*member)(const ArgArgs&)>
BoundKernel bind_arg(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const Shape& shape = spec.inputs[0].shape;
  const auto axis =
      static_cast<size_t>(normalize_axis(spec.attrs.integer("axis"), static_cast<int>(shape.size()), spec.op.c_str()));
  ArgArgs a = {nullptr, nullptr, 1, shape[axis], 1};
  for (size_t d = 0; d < shape.size(); ++d)
    if (d != axis) (d < axis ? a.outer : a.inner) *= shape[d];
  if (a.count == 0 || a.count > INT32_MAX || a.outer * a.inner == 0) return {};
  return {[run = table().*member, base = a](const RunArgs& args) {
    ArgArgs a = base;
    a.x = static_cast<const float*>(args.in[0]);
    a.out = static_cast<int64_t*>(args.out[0]);
    run(a);
  }};
}

}  // namespace

void register_cpu_reduce(Registry& r) {
  r.add("cpu", 10, "sum", bind_reduce<&ReduceTable::sum_rows, &ReduceTable::sum_columns>);
  r.add("cpu", 10, "max", bind_reduce<&ReduceTable::max_rows, &ReduceTable::max_columns>);
  r.add("cpu", 10, "min", bind_reduce<&ReduceTable::min_rows, &ReduceTable::min_columns>);
  r.add("cpu", 10, "argmax", bind_arg<&ReduceTable::argmax>);
  r.add("cpu", 10, "argmin", bind_arg<&ReduceTable::argmin>);
}
#else
void register_cpu_reduce(Registry&) {}
#endif

}  // namespace dlcore
