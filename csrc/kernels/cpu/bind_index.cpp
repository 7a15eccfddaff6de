// Binds take, scatter_add and their along-an-axis forms: indices are checked first, then the kernels trust them.
#include "kernels/index_spec.h"

#if defined(__x86_64__)
#include "base/cpu.h"
#include "kernels/cpu/index.h"

namespace dlcore {
namespace {

const IndexTable* table() {
  const Isa isa = current_isa();
  if (isa == Isa::Avx512) return &avx512::index_table;
  return isa == Isa::Avx2 ? &avx2::index_table : nullptr;
}

bool served(const IndexSpec& s) { return s.index == DType::I32 || s.index == DType::I64; }

void check(const IndexTable* t, const char* op, const IndexSpec& s, const void* indices, int64_t n) {
  const int64_t bad = t->first_bad(indices, s.index == DType::I64, n, 0, s.size);
  if (bad < n) index_error(op, index_at(s.index, indices, bad), bad, 0, s.size);
}

BoundKernel bind_take(const KernelSpec& spec) {
  const IndexTable* t = table();
  if (!t) return {};
  const IndexSpec s = row_index_spec(spec);
  if (!served(s)) return {};
  const RowIndexArgs args{s.size, s.count, s.row * static_cast<int64_t>(size_of(s.value)), s.index == DType::I64};
  return {[t, s, args](const RunArgs& a) {
            check(t, "take", s, a.in[1], s.count);
            t->take(args, static_cast<const char*>(a.in[0]), a.in[1], static_cast<char*>(a.out[0]));
          },
          0,
          {}};
}

BoundKernel bind_scatter_add(const KernelSpec& spec) {
  const IndexTable* t = table();
  if (!t) return {};
  const IndexSpec s = row_index_spec(spec);
  if (!served(s) || s.value != DType::F32) return {};
  const RowIndexArgs args{s.size, s.count, s.row, s.index == DType::I64};
  return {[t, s, args](const RunArgs& a) {
            check(t, "scatter_add", s, a.in[1], s.count);
            t->scatter_add(args, static_cast<const float*>(a.in[0]), a.in[1], static_cast<float*>(a.out[0]));
          },
          0,
          {}};
}

BoundKernel bind_take_along_axis(const KernelSpec& spec) {
  const IndexTable* t = table();
  if (!t) return {};
  const IndexSpec s = axis_index_spec(spec);
  if (!served(s)) return {};
  const AxisIndexArgs args{
      s.outer, s.size, s.count, s.inner, static_cast<int>(size_of(s.value)), s.index == DType::I64};
  return {[t, s, args](const RunArgs& a) {
            check(t, "take_along_axis", s, a.in[1], s.outer * s.count * s.inner);
            t->take_along_axis(args, static_cast<const char*>(a.in[0]), a.in[1], static_cast<char*>(a.out[0]));
          },
          0,
          {}};
}

BoundKernel bind_scatter_along_axis(const KernelSpec& spec) {
  const IndexTable* t = table();
  if (!t) return {};
  const IndexSpec s = axis_index_spec(spec);
  if (!served(s) || s.value != DType::F32) return {};
  const AxisIndexArgs args{s.outer, s.size, s.count, s.inner, 4, s.index == DType::I64};
  return {[t, s, args](const RunArgs& a) {
            check(t, "scatter_along_axis", s, a.in[1], s.outer * s.count * s.inner);
            t->scatter_along_axis(args, static_cast<const float*>(a.in[0]), a.in[1], static_cast<float*>(a.out[0]));
          },
          0,
          {}};
}

}  // namespace

void register_cpu_index(Registry& r) {
  r.add("cpu", 10, "take", bind_take);
  r.add("cpu", 10, "scatter_add", bind_scatter_add);
  r.add("cpu", 10, "take_along_axis", bind_take_along_axis);
  r.add("cpu", 10, "scatter_along_axis", bind_scatter_along_axis);
}

}  // namespace dlcore

#else

namespace dlcore {
void register_cpu_index(Registry&) {}
}  // namespace dlcore

#endif
