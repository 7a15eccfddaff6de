// How the bindings of products and norms bind an epilogue.
#pragma once
#include <memory>
#include <utility>

#include "base/cpu.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/fused_spec.h"

namespace dlcore::cpu {

// The plan of a `fused` call; null when the vectorised kernels do not serve it.
std::shared_ptr<const TilePlan> plan_fused(const KernelSpec& spec);

// An epilogue bound to a run's pointers: the arguments are those of the whole call ("matmul_fused").
class EpilogueRun {
 public:
  static constexpr size_t kWorkspace = static_cast<size_t>(kTileArena);
  // `own`: inputs of the product; `workspace`: kWorkspace bytes. A null plan makes a null epilogue.
  EpilogueRun(const TilePlan* plan, const TileTable& table, const RunArgs& args, void* workspace, int own = 2);
  const Epilogue* get() const { return epilogue_.plan ? &epilogue_ : nullptr; }

 private:
  const void* in_[1 + kMaxEpilogueInputs];
  Epilogue epilogue_;
};

const TileTable& tile_kernels();  // of the current instruction set, which is not Isa::Ref

// What stands behind a norm: nothing, or the tile program of its "_fused" op.
struct Behind {
  std::shared_ptr<const TilePlan> plan;
  int own = 0;      // inputs of the norm
  int results = 1;  // outputs of the program, or the norm's one; its statistics follow

  size_t workspace() const { return plan ? EpilogueRun::kWorkspace : 0; }
  EpilogueRun bind(const RunArgs& args, size_t used = 0) const {
    return {plan.get(), tile_kernels(), args, static_cast<char*>(args.workspace) + used, own};
  }
};

using NormBinder = BoundKernel (*)(const KernelSpec& norm, const Behind& behind);
template <NormBinder kBind>
BoundKernel bind_alone(const KernelSpec& spec) {
  return kBind(spec, {});
}
template <NormBinder kBind>
BoundKernel bind_with_epilogue(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref) return {};
  const FusedParts parts = take_apart(spec);
  auto plan = plan_fused(parts.tile);
  if (!plan) return {};
  return kBind(parts.product, {std::move(plan), static_cast<int>(parts.own), static_cast<int>(parts.results)});
}

// of the current instruction set, which is not Isa::Ref

}  // namespace dlcore::cpu
