// A product or norm with its epilogue, "matmul_fused" and the like: the product of the first inputs, then a tile
// program over its result (x0) and the other inputs (x1, …). A norm's statistics follow the program's outputs.
#pragma once
#include "kernels/registry.h"

namespace dlcore {

struct FusedParts {
  KernelSpec product, tile;
  size_t own;      // inputs of the product
  size_t results;  // outputs of the tile program; the product's others follow
};

inline FusedParts take_apart(const KernelSpec& spec) {
  FusedParts parts;
  KernelSpec& product = parts.product;
  product.op = spec.op.substr(0, spec.op.size() - std::string_view("_fused").size());
  const bool norm = product.op.ends_with("_norm"), rms = product.op == "rms_norm";
  parts.own = norm && !rms ? 3 : 2;
  parts.results = spec.outputs.size() - (rms ? 1 : norm ? 2 : 0);
  product.inputs.assign(spec.inputs.begin(), spec.inputs.begin() + static_cast<std::ptrdiff_t>(parts.own));
  product.outputs = {spec.outputs[0]};
  product.outputs.insert(product.outputs.end(), spec.outputs.begin() + static_cast<std::ptrdiff_t>(parts.results),
                         spec.outputs.end());
  for (size_t i = 0; i < parts.own; ++i) product.constants.push_back(spec.constant(i));
  for (const auto& [name, value] : spec.attrs)
    if (name != "code") product.attrs.set(name, value);
  KernelSpec& tile = parts.tile;
  tile.op = "fused";
  tile.inputs.assign(spec.inputs.begin() + static_cast<std::ptrdiff_t>(parts.own) - 1, spec.inputs.end());
  tile.inputs[0] = spec.outputs[0];
  tile.outputs.assign(spec.outputs.begin(), spec.outputs.begin() + static_cast<std::ptrdiff_t>(parts.results));
  tile.attrs.set("code", spec.attrs.text("code"));
  return parts;
}

inline constexpr size_t kMaxEpilogueInputs = 8;  // besides the product's own

}  // namespace dlcore
