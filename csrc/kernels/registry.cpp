#include "kernels/registry.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "base/error.h"

namespace dlcore {

#define DLCORE_KERNEL_FAMILIES(X) \
  X(ref_elementwise)              \
  X(ref_reduce)                   \
  X(ref_random)                   \
  X(ref_optim)                    \
  X(ref_movement)                 \
  X(ref_index)                    \
  X(ref_pool)                     \
  X(ref_sort)                     \
  X(ref_gemm)                     \
  X(ref_conv)                     \
  X(ref_softmax)                  \
  X(ref_norm)                     \
  X(ref_group_norm)               \
  X(ref_attention)                \
  X(ref_rnn)                      \
  X(ref_ctc)                      \
  X(ref_fused)                    \
  X(cpu_elementwise)              \
  X(cpu_reduce)                   \
  X(cpu_random)                   \
  X(cpu_optim)                    \
  X(cpu_movement)                 \
  X(cpu_index)                    \
  X(cpu_pool)                     \
  X(cpu_gemm)                     \
  X(cpu_conv)                     \
  X(cpu_softmax)                  \
  X(cpu_norm)                     \
  X(cpu_group_norm)               \
  X(cpu_attention)                \
  X(cpu_rnn)

#define DECLARE(family) void register_##family(Registry& r);
DLCORE_KERNEL_FAMILIES(DECLARE)
#undef DECLARE

namespace {

struct Entry {
  std::string backend;
  int priority;
  BindFn bind;
};

class Table final : public Registry {
 public:
  void add(std::string_view backend, int priority, std::string_view op, BindFn bind) override {
    DLCORE_CHECK(bind && !backend.empty() && !op.empty(), Value, "a kernel needs a backend, an op and a bind function");
    const std::unique_lock lock(mutex_);
    auto& entries = ops_[std::string(op)];
    const auto same = [&](const auto& e) { return e->backend == backend; };
    DLCORE_CHECK(std::none_of(entries.begin(), entries.end(), same), Value, "backend '", backend,
                 "' already has a kernel for '", op, "'");
    const auto at = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e->priority < priority; });
    entries.insert(at, std::make_unique<const Entry>(Entry{std::string(backend), priority, bind}));
  }

  BoundKernel bind(const KernelSpec& spec, std::string_view only) const override {
    // Entries are never taken out, so the lock can go; a bind may itself ask the registry.
    std::vector<const Entry*> entries;
    {
      const std::shared_lock lock(mutex_);
      if (const auto it = ops_.find(spec.op); it != ops_.end())
        for (const std::unique_ptr<const Entry>& e : it->second) entries.push_back(e.get());
    }
    for (const Entry* e : entries) {
      if (!only.empty() && e->backend != only) continue;
      if (BoundKernel bound = e->bind(spec)) {
        bound.backend = e->backend;
        return bound;
      }
    }
    std::string types;
    for (const TensorType& t : spec.inputs) types += (types.empty() ? "" : ", ") + to_string(t);
    fail(ErrorKind::Type, "[", spec.op, "] no kernel", only.empty() ? "" : " in backend ", only, " for (", types, ") ",
         to_string(spec.attrs));
  }

  std::vector<std::string> backends(std::string_view op) const override {
    const std::shared_lock lock(mutex_);
    std::vector<std::string> names;
    if (const auto it = ops_.find(op); it != ops_.end())
      for (const auto& e : it->second) names.push_back(e->backend);
    return names;
  }

 private:
  mutable std::shared_mutex mutex_;
  std::map<std::string, std::vector<std::unique_ptr<const Entry>>, std::less<>>
      ops_;  // each list in descending priority
};

}  // namespace

Registry& registry() {
  static Table* table = [] {
    auto* t = new Table;  // never destroyed: bound kernels name their backend by a view into it
#define ADD(family) register_##family(*t);
    DLCORE_KERNEL_FAMILIES(ADD)
#undef ADD
    return t;
  }();
  return *table;
}

}  // namespace dlcore
