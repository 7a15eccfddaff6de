// A product with its epilogue, "matmul_fused" and the like: the product of the first two inputs, then a tile program
// over its result (x0) and the other inputs (x1, …).
#pragma once
#include "kernels/registry.h"

namespace dlcore {

struct FusedParts {
  KernelSpec product, tile;
};

inline FusedParts take_apart(const KernelSpec& spec) {
  FusedParts parts;
  KernelSpec& product = parts.product;
  product.op = spec.op.substr(0, spec.op.size() - std::string_view("_fused").size());
  product.inputs.assign(spec.inputs.begin(), spec.inputs.begin() + 2);
  product.outputs = {spec.outputs[0]};
  product.constants = {spec.constant(0), spec.constant(1)};
  for (const auto& [name, value] : spec.attrs)
    if (name != "code") product.attrs.set(name, value);
  KernelSpec& tile = parts.tile;
  tile.op = "fused";
  tile.inputs.assign(spec.inputs.begin() + 1, spec.inputs.end());
  tile.inputs[0] = spec.outputs[0];
  tile.outputs = spec.outputs;
  tile.attrs.set("code", spec.attrs.text("code"));
  return parts;
}

inline constexpr size_t kMaxEpilogueInputs = 8;  // besides the product's own two

}  // namespace dlcore
