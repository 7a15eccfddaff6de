// How the bindings of products bind an epilogue.
#pragma once
#include <memory>

#include "kernels/cpu/epilogue.h"
#include "kernels/fused_spec.h"

namespace dlcore::cpu {

// The plan of a `fused` call; null when the vectorised kernels do not serve it.
std::shared_ptr<const TilePlan> plan_fused(const KernelSpec& spec);

// An epilogue bound to a run's pointers: the arguments are those of the whole call ("matmul_fused").
class EpilogueRun {
 public:
  static constexpr size_t kWorkspace = static_cast<size_t>(kTileArena);
  // `workspace`: kWorkspace bytes. A null plan makes a null epilogue.
  EpilogueRun(const TilePlan* plan, const TileTable& table, const RunArgs& args, void* workspace);
  const Epilogue* get() const { return epilogue_.plan ? &epilogue_ : nullptr; }

 private:
  const void* in_[1 + kMaxEpilogueInputs];
  Epilogue epilogue_;
};

const TileTable& tile_kernels();  // of the current instruction set, which is not Isa::Ref

}  // namespace dlcore::cpu
