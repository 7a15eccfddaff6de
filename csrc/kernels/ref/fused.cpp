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
  bound.run = [product, tile, extras = spec.inputs.size() - 2](const RunArgs& args) {
    product.run(args);
    std::vector<const void*> in{args.out[0]};
    in.insert(in.end(), args.in + 2, args.in + 2 + extras);
    tile.run({in.data(), args.out, args.workspace});
  };
  return bound;
}

}  // namespace

void register_ref_fused(Registry& r) {
  r.add("ref", 0, "matmul_fused", bind_in_turn);
  r.add("ref", 0, "conv2d_fused", bind_in_turn);
  r.add("ref", 0, "conv3d_fused", bind_in_turn);
}

}  // namespace dlcore
