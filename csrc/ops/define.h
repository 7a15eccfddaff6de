// How a family writes an op down: define<"relu", infer>(…) joins the name to its rules, so that one rule can serve many
// names and still complain in the name of the op at hand.
#pragma once
#include <algorithm>
#include <cstddef>

#include "ops/build.h"
#include "ops/call.h"
#include "ops/op.h"

namespace dlcore {

template <size_t N>
struct OpName {
  char text[N];
  consteval OpName(const char (&name)[N]) {  // NOLINT: a literal is meant to convert
    std::copy_n(name, N, text);
  }
  constexpr std::string_view view() const { return {text, N - 1}; }
};

// The rules as families write them. A grad rule may emit freely: it gets copies, since appending moves the graph's
// nodes.
using InferRule = Types (*)(Call& call);
using GradRule = Ids (*)(Builder& b, const Node& node, const Ids& dy);
using DecomposeRule = Ids (*)(Builder& b, const Node& node);

Types run_infer(std::string_view op, InferRule rule, std::span<const TensorType> inputs, const Attrs& attrs);

template <OpName kName, InferRule kRule>
Types infer_as(std::span<const TensorType> inputs, const Attrs& attrs) {
  return run_infer(kName.view(), kRule, inputs, attrs);
}

template <GradRule kRule>
Ids grad_as(Graph& g, const Node& node, std::span<const ValueId> dy) {
  const Node copy = node;
  const Ids gradients(dy.begin(), dy.end());
  Builder b(g, copy.where);
  return kRule(b, copy, gradients);
}

template <DecomposeRule kRule>
Ids decompose_as(Graph& g, const Node& node) {
  const Node copy = node;
  Builder b(g, copy.where);
  return kRule(b, copy);
}

// An op of exactly `inputs` inputs; families adjust the other fields.
template <OpName kName, InferRule kInfer>
OpDef define(int inputs, uint32_t flags = 0, std::vector<InPlace> in_place = {}) {
  static constexpr OpName name = kName;
  OpDef def;
  def.name = name.view();
  def.min_inputs = def.max_inputs = inputs;
  def.infer = infer_as<kName, kInfer>;
  def.flags = flags;
  def.in_place = std::move(in_place);
  return def;
}

template <OpName kName, InferRule kInfer, GradRule kGrad>
OpDef define(int inputs, uint32_t flags = 0, std::vector<InPlace> in_place = {}) {
  OpDef def = define<kName, kInfer>(inputs, flags, std::move(in_place));
  def.grad = grad_as<kGrad>;
  return def;
}

template <OpName kName, InferRule kInfer, DecomposeRule kDecompose>
OpDef define_composite(int inputs, uint32_t flags = 0, std::vector<InPlace> in_place = {}) {
  OpDef def = define<kName, kInfer>(inputs, flags, std::move(in_place));
  def.decompose = decompose_as<kDecompose>;
  return def;
}

}  // namespace dlcore
