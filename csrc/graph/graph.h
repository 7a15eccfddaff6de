// The graph: SSA values of static type. Leaves enter with a role; nodes stand in topological order; update pairs say
// which state takes which new value after a run.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/attrs.h"
#include "base/shape.h"
#include "tensor/tensor.h"

namespace dlcore {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kNone = -1;

enum class Role { Input, Param, State, Const };
std::string_view name_of(Role role);

struct Value {
  TensorType type;
  NodeId producer = kNone;  // kNone for a leaf
};

struct Leaf {
  Role role;
  std::string name;  // unique over the graph's leaves
  ValueId value;
  Tensor data;  // defined for Role::Const only
};

struct Node {
  std::string op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attrs attrs;
  std::string where;  // path of the layer that made it ("encoder.2.fc1"), for messages
};

struct Output {
  std::string name;
  ValueId value;
};

struct Update {
  ValueId state;  // a leaf with role param or state
  ValueId value;
};

class Graph {
 public:
  ValueId add_leaf(Role role, std::string name, TensorType type, Tensor data = {});
  // No inference here: ops/op.h's emit() is the way to append a node; passes that know the types use this one.
  std::vector<ValueId> add_node(Node node, std::vector<TensorType> output_types);
  void add_output(std::string name, ValueId value) { outputs.push_back({std::move(name), value}); }
  void add_update(ValueId state, ValueId value);  // throws for a value that is no param/state or has an update already

  const TensorType& type(ValueId v) const { return values[static_cast<size_t>(v)].type; }
  const Shape& shape(ValueId v) const { return type(v).shape; }
  DType dtype(ValueId v) const { return type(v).dtype; }
  const Node* producer(ValueId v) const;  // nullptr for a leaf
  const Leaf* leaf(ValueId v) const;      // nullptr for a computed value

  std::vector<Value> values;
  std::vector<Leaf> leaves;
  std::vector<Node> nodes;
  std::vector<Output> outputs;
  std::vector<Update> updates;
  // A frozen graph holds for any number of rows: it is traced with this prime as the number of rows, and every size
  // divisible by it stands for a multiple of N. 0: sizes are what they say. Printed as N, 4*N.
  int64_t batch = 0;
};

// text.cpp: one form for reading, golden tests and files. parse(print(g)) prints the same text again.
std::string print(const Graph& graph);
// Constants' data is looked up by leaf name; throws Error(Value) naming line and reason. The result is verified.
Graph parse(const std::string& text, const std::map<std::string, Tensor>& constants);

// batch.cpp: the same graph for n rows (graph.batch != 0), with batch = 0.
Graph with_batch(const Graph& graph, int64_t n);

}  // namespace dlcore
