#include "graph/graph.h"

#include <algorithm>

#include "base/error.h"

namespace dlcore {

std::string_view name_of(Role role) {
  switch (role) {
    case Role::Input:
      return "input";
    case Role::Param:
      return "param";
    case Role::State:
      return "state";
    case Role::Const:
      return "const";
  }
  return "";
}

ValueId Graph::add_leaf(Role role, std::string name, TensorType type, Tensor data) {
  DLCORE_CHECK(!name.empty(), Value, "a leaf of the graph needs a name");
  DLCORE_CHECK(type.shape.size() <= kMaxRank, Value, "leaf '", name, "' has ", type.shape.size(),
               " dimensions, the limit is ", kMaxRank);
  byte_size(type);
  for (const Leaf& other : leaves)
    DLCORE_CHECK(other.name != name, Value, "two leaves of the graph have the name '", name, "'");
  DLCORE_CHECK(data.defined() == (role == Role::Const), Value, "leaf '", name, "' of role ", name_of(role),
               role == Role::Const ? " needs data" : " takes no data");
  DLCORE_CHECK(!data.defined() || data.type() == type, Value, "constant '", name, "' is stated as ", to_string(type),
               ", its data is ", to_string(data.type()));
  const auto value = static_cast<ValueId>(values.size());
  values.push_back({std::move(type), kNone});
  leaves.push_back({role, std::move(name), value, std::move(data)});
  return value;
}

std::vector<ValueId> Graph::add_node(Node node, std::vector<TensorType> output_types) {
  const auto id = static_cast<NodeId>(nodes.size());
  for (ValueId v : node.inputs)
    DLCORE_CHECK(v >= 0 && static_cast<size_t>(v) < values.size(), Value, "[", node.op, "] input ", v,
                 " is no value of this graph");
  node.outputs.clear();
  for (TensorType& type : output_types) {
    node.outputs.push_back(static_cast<ValueId>(values.size()));
    values.push_back({std::move(type), id});
  }
  nodes.push_back(std::move(node));
  return nodes.back().outputs;
}

void Graph::add_update(ValueId state, ValueId value) {
  DLCORE_CHECK(value >= 0 && static_cast<size_t>(value) < values.size(), Value, "update with ", value,
               ", which is no value of this graph");
  const Leaf* target = leaf(state);
  DLCORE_CHECK(target && (target->role == Role::Param || target->role == Role::State), Value,
               "only a param or a state can be updated, not ", target ? "'" + target->name + "'" : "a computed value");
  DLCORE_CHECK(type(state) == type(value), Value, "'", target->name, "' is ", to_string(type(state)),
               " and cannot be updated with ", to_string(type(value)));
  for (const Update& u : updates) DLCORE_CHECK(u.state != state, Value, "'", target->name, "' has an update already");
  updates.push_back({state, value});
}

const Node* Graph::producer(ValueId v) const {
  if (v < 0 || static_cast<size_t>(v) >= values.size()) return nullptr;
  const NodeId id = values[static_cast<size_t>(v)].producer;
  return id == kNone ? nullptr : &nodes[static_cast<size_t>(id)];
}

const Leaf* Graph::leaf(ValueId v) const {
  const auto it = std::find_if(leaves.begin(), leaves.end(), [v](const Leaf& l) { return l.value == v; });
  return it == leaves.end() ? nullptr : &*it;
}

}  // namespace dlcore
