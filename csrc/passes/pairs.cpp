// gelu(x) and gelu_slope(x), which training takes of the same x, share most of their arithmetic: one node computes
// both, and the slope is kept for the backward pass in place of x.
#include <map>

#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

struct Pair {
  NodeId value = kNone, slope = kNone;
  bool whole() const { return value != kNone && slope != kNone; }
};

std::map<ValueId, Pair> find_pairs(const Graph& g) {
  std::map<ValueId, Pair> pairs;
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const Node& n = g.nodes[i];
    if (n.op == "gelu") pairs[n.inputs[0]].value = static_cast<NodeId>(i);
    if (n.op == "gelu_slope") pairs[n.inputs[0]].slope = static_cast<NodeId>(i);
  }
  return pairs;
}

}  // namespace

Graph join_pairs(const Graph& g) {
  const std::map<ValueId, Pair> pairs = find_pairs(g);
  std::map<ValueId, std::vector<ValueId>> done;
  Rewrite r(g);
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const Node& n = g.nodes[i];
    const auto found = n.inputs.empty() ? pairs.end() : pairs.find(n.inputs[0]);
    const bool is_value = found != pairs.end() && found->second.value == static_cast<NodeId>(i);
    const bool is_slope = found != pairs.end() && found->second.slope == static_cast<NodeId>(i);
    if ((!is_value && !is_slope) || !found->second.whole()) {
      r.keep(n);
      continue;
    }
    std::vector<ValueId>& both = done[n.inputs[0]];
    if (both.empty()) both = emit(r.to, "gelu_with_slope", {r(n.inputs[0])}, {}, n.where);
    r.set(n.outputs[0], both[is_value ? 0 : 1]);
  }
  return r.finish();
}

}  // namespace dlcore
