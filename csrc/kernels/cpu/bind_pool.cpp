// Binds the pooling ops in f32.
#include "kernels/index_spec.h"

#if defined(__x86_64__)
#include "base/cpu.h"
#include "kernels/cpu/index.h"
#include "kernels/cpu/pool.h"

namespace dlcore {
namespace {

struct Tables {
  const PoolTable* pool = nullptr;
  const IndexTable* index = nullptr;
};

Tables tables() {
  const Isa isa = current_isa();
  if (isa == Isa::Avx512) return {&avx512::pool_table, &avx512::index_table};
  if (isa == Isa::Avx2) return {&avx2::pool_table, &avx2::index_table};
  return {};
}

// Rows, columns and counts stay well inside 32 bits, and the estimate of the work inside 64.
bool served(const KernelSpec& spec, const PoolArgs& a) {
  constexpr int64_t limit = 1 << 14;
  const int64_t sizes[] = {a.kh, a.kw, a.sh, a.sw, a.dh, a.dw, a.top, a.bottom, a.left, a.right};
  for (int64_t v : sizes)
    if (v > limit) return false;
  return spec.inputs[0].dtype == DType::F32 && a.w <= (1 << 24) && a.ow <= (1 << 16) && a.oh <= (1 << 16);
}

[[noreturn]] void bad_index(const char* op, const PoolArgs& a, const void* indices, int64_t position) {
  index_error(op, index_at(DType::I32, indices, position), position, 0, a.h * a.w);
}

BoundKernel bind_max(const KernelSpec& spec) {
  const Tables t = tables();
  if (!t.pool) return {};
  const PoolArgs p = pool_args(spec);
  if (!served(spec, p)) return {};
  return {[t, p](const RunArgs& a) {
            t.pool->max(p, static_cast<const float*>(a.in[0]), static_cast<float*>(a.out[0]),
                        static_cast<int32_t*>(a.out[1]));
          },
          0,
          {}};
}

BoundKernel bind_max_backward(const KernelSpec& spec) {
  const Tables t = tables();
  if (!t.pool) return {};
  const PoolArgs p = pool_args(spec);
  if (!served(spec, p)) return {};
  return {[t, p](const RunArgs& a) {
            const int64_t bad =
                t.pool->max_backward(p, static_cast<const float*>(a.in[0]), static_cast<const int32_t*>(a.in[1]),
                                     static_cast<float*>(a.out[0]));
            if (bad >= 0) bad_index("max_pool2d_backward", p, a.in[1], bad);
          },
          0,
          {}};
}

BoundKernel bind_max_gather(const KernelSpec& spec) {
  const Tables t = tables();
  if (!t.pool) return {};
  const PoolArgs p = pool_args(spec);
  if (!served(spec, p)) return {};
  return {[t, p](const RunArgs& a) {
            const int64_t n = p.n * p.c * p.oh * p.ow;
            const int64_t bad = t.index->first_bad(a.in[1], false, n, -1, p.h * p.w);
            if (bad < n) bad_index("max_pool2d_gather", p, a.in[1], bad);
            t.pool->max_gather(p, static_cast<const float*>(a.in[0]), static_cast<const int32_t*>(a.in[1]),
                               static_cast<float*>(a.out[0]));
          },
          0,
          {}};
}

BoundKernel bind_avg(const KernelSpec& spec) {
  const Tables t = tables();
  if (!t.pool) return {};
  const PoolArgs p = pool_args(spec);
  if (!served(spec, p)) return {};
  const auto run = spec.op == "avg_pool2d" ? t.pool->avg : t.pool->avg_backward;
  return {
      [run, p](const RunArgs& a) { run(p, static_cast<const float*>(a.in[0]), static_cast<float*>(a.out[0])); }, 0, {}};
}

}  // namespace

void register_cpu_pool(Registry& r) {
  r.add("cpu", 10, "max_pool2d", bind_max);
  r.add("cpu", 10, "max_pool2d_backward", bind_max_backward);
  r.add("cpu", 10, "max_pool2d_gather", bind_max_gather);
  r.add("cpu", 10, "avg_pool2d", bind_avg);
  r.add("cpu", 10, "avg_pool2d_backward", bind_avg);
}

}  // namespace dlcore

#else

namespace dlcore {
void register_cpu_pool(Registry&) {}
}  // namespace dlcore

#endif
