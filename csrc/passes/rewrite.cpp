#include "passes/rewrite.h"

#include <algorithm>

namespace dlcore {

Rewrite::Rewrite(const Graph& g, const std::vector<char>* live) : from(g), map(g.values.size(), kNone) {
  to.batch = g.batch;
  to.values.reserve(g.values.size());
  to.nodes.reserve(g.nodes.size());
  for (const Leaf& leaf : g.leaves) {
    if (live && leaf.role == Role::Const && !(*live)[static_cast<size_t>(leaf.value)]) continue;
    set(leaf.value, static_cast<ValueId>(to.values.size()));
    to.values.push_back({g.type(leaf.value), kNone});
    to.leaves.push_back(leaf);
    to.leaves.back().value = (*this)(leaf.value);
  }
}

Node Rewrite::mapped(const Node& node) const {
  Node copy = node;
  for (ValueId& v : copy.inputs) v = (*this)(v);
  return copy;
}

void Rewrite::keep(const Node& node) {
  const std::vector<ValueId> outputs = to.add_node(mapped(node), types_of(from, node.outputs));
  for (size_t i = 0; i < outputs.size(); ++i) set(node.outputs[i], outputs[i]);
}

Graph Rewrite::finish() {
  for (const Output& o : from.outputs) to.outputs.push_back({o.name, (*this)(o.value)});
  for (const Update& u : from.updates) to.updates.push_back({(*this)(u.state), (*this)(u.value)});
  return std::move(to);
}

Types types_of(const Graph& g, const std::vector<ValueId>& values) {
  Types types;
  types.reserve(values.size());
  for (ValueId v : values) types.push_back(g.type(v));
  return types;
}

bool has_flag(std::string_view op, uint32_t flag) {
  const OpDef* def = find_op(op);
  return def && (def->flags & flag) != 0;
}

bool is_pointwise(std::string_view op) {
  // Random ops draw by the element's position, whatever their flags say.
  return has_flag(op, kElementwise) && op != "dropout" && !op.starts_with("random_");
}

std::vector<int> use_counts(const Graph& g) {
  std::vector<int> uses(g.values.size(), 0);
  for (const Node& node : g.nodes)
    for (ValueId v : node.inputs) ++uses[static_cast<size_t>(v)];
  for (const Output& o : g.outputs) ++uses[static_cast<size_t>(o.value)];
  for (const Update& u : g.updates) ++uses[static_cast<size_t>(u.value)];
  return uses;
}

bool depends_on_batch(const Graph& g, const Node& node) {
  if (g.batch == 0) return false;
  const auto stands_for_rows = [&](int64_t d) { return d > 0 && d % g.batch == 0; };
  const auto any = [&](const IntList& sizes) { return std::any_of(sizes.begin(), sizes.end(), stands_for_rows); };
  for (ValueId v : node.inputs)
    if (any(g.shape(v))) return true;
  for (ValueId v : node.outputs)
    if (any(g.shape(v))) return true;
  for (const auto& [name, value] : node.attrs) {
    const int64_t* i = std::get_if<int64_t>(&value);
    const IntList* list = std::get_if<IntList>(&value);
    if ((i && stands_for_rows(*i)) || (list && any(*list))) return true;
  }
  return false;
}

}  // namespace dlcore
