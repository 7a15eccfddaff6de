// An op is a name to which rules are attached: arity, shape inference, derivative, flags. Kernels stand elsewhere.
// The catalogue with every op's meaning is docs/ops.md.
#pragma once
#include <span>
#include <string_view>

#include "graph/graph.h"

namespace dlcore {

using Types = std::vector<TensorType>;
using InferFn = Types (*)(std::span<const TensorType> inputs, const Attrs& attrs);
// Appends the derivative to the graph: for each input the gradient, or kNone. dy holds kNone where no gradient came.
using GradFn = std::vector<ValueId> (*)(Graph& g, const Node& node, std::span<const ValueId> dy);
// Appends the same computation in more primitive ops and returns the outputs.
using DecomposeFn = std::vector<ValueId> (*)(Graph& g, const Node& node);

enum OpFlag : uint32_t {
  kElementwise = 1,  // output element i depends on (broadcast) input elements i only
  kCommutative = 2,
  kView = 4,      // output is input 0's memory under another shape
  kZeroGrad = 8,  // derivative is zero (comparisons, rounding, stop_gradient)
};

struct InPlace {
  int output, input;  // output may be written over input's memory (the kernel promises it)
};

struct OpDef {
  std::string_view name;
  int min_inputs = 1, max_inputs = 1;  // max -1: any number
  InferFn infer = nullptr;
  GradFn grad = nullptr;
  uint32_t flags = 0;
  std::vector<InPlace> in_place = {};
  DecomposeFn decompose = nullptr;  // for ops whose derivative is that of their decomposition
};

const OpDef* find_op(std::string_view name);  // nullptr when unknown
const OpDef& get_op(std::string_view name);   // throws Error(Key)
std::vector<const OpDef*> all_ops();          // sorted by name
void register_op(OpDef def);                  // families call this from register_*_ops(), listed in ops/registry.cpp

// Checks arity and infers the output types.
Types infer_types(const OpDef& def, std::span<const TensorType> inputs, const Attrs& attrs);

// Infers the output types, checks arity, appends the node. Errors carry "[op] …" and, if given, the layer's path.
std::vector<ValueId> emit(Graph& g, std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {},
                          std::string where = {});
inline ValueId emit1(Graph& g, std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {},
                     std::string where = {}) {
  return emit(g, op, std::move(inputs), std::move(attrs), std::move(where))[0];
}

// Checks order, arity, types (inferred again), roles, names, updates; throws Error(Value) naming the node.
void verify(const Graph& graph);

}  // namespace dlcore
