// Products with an epilogue: the product, then the tile program over the whole result.
#include <memory>

#include "kernels/fused_spec.h"

namespace dlcore {

void register_ref_fused(Registry& registry);

namespace {

BoundKernel bind_in_turn(const KernelSpec& spec) {
  const FusedParts parts = take_apart(spec);
  const BoundKernel product = registry().bind(parts.product, "ref"), tile = registry().bind(parts.tile, "ref");
  BoundKernel bound;
  bound.workspace = product.workspace > tile.workspace ? product.workspace : tile.workspace;
  bound.run = [product, tile, own = parts.own, all = spec.inputs.size(), results = parts.results,
               made = parts.product.outputs.size()](const RunArgs& args) {
    std::vector<void*> out{args.out[0]};
    out.insert(out.end(), args.out + results, args.out + results + made - 1);
    product.run({args.in, out.data(), args.workspace});
    std::vector<const void*> in{args.out[0]};
    in.insert(in.end(), args.in + own, args.in + all);
    tile.run({in.data(), args.out, args.workspace});
  };
  return bound;
}

}  // namespace

void register_ref_fused(Registry& r) {
  for (const char* op : {"matmul_fused", "conv2d_fused", "conv3d_fused", "layer_norm_fused", "rms_norm_fused",
                         "batch_norm_fused", "group_norm_fused"})
    r.add("ref", 0, op, bind_in_turn);
}

}  // namespace dlcore
