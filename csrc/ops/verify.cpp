// The graph's invariants, checked against the ops' rules. Parsing ends here, too: a text is only good if it means
// something.
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "graph/parse.h"
#include "ops/op.h"

namespace dlcore {

namespace {

void check_type(const TensorType& type) {
  DLCORE_CHECK(type.shape.size() <= kMaxRank, Value, "a value has ", type.shape.size(), " dimensions, the limit is ",
               kMaxRank);
  byte_size(type);
}

// Which values are defined so far; nodes add theirs in order.
class Verifier {
 public:
  explicit Verifier(const Graph& g) : g_(g), defined_(g.values.size(), false) {}

  void leaves() {
    std::unordered_set<std::string> names;
    for (const Leaf& leaf : g_.leaves) {
      DLCORE_CHECK(names.insert(leaf.name).second, Value, "two leaves have the name '", leaf.name, "'");
      define(leaf.value, kNone);
      const TensorType& type = g_.type(leaf.value);
      DLCORE_CHECK(leaf.data.defined() == (leaf.role == Role::Const), Value, "leaf '", leaf.name, "' of role ",
                   name_of(leaf.role), leaf.data.defined() ? " has data" : " has no data");
      DLCORE_CHECK(!leaf.data.defined() || leaf.data.type() == type, Value, "constant '", leaf.name, "' is stated as ",
                   to_string(type), ", its data is ", to_string(leaf.data.type()));
    }
  }

  void node(size_t index) {
    const Node& node = g_.nodes[index];
    const OpDef* def = find_op(node.op);
    DLCORE_CHECK(def, Value, "unknown op '", node.op, "'");
    const auto count = static_cast<int64_t>(node.inputs.size());
    const std::string want = def->max_inputs == def->min_inputs ? format(def->min_inputs)
                             : def->max_inputs < 0              ? format(def->min_inputs, " or more")
                                                                : format(def->min_inputs, " to ", def->max_inputs);
    DLCORE_CHECK(count >= def->min_inputs && (def->max_inputs < 0 || count <= def->max_inputs), Value, "[", node.op,
                 "] has ", count, " inputs, it takes ", want);
    Types inputs;
    for (ValueId v : node.inputs) {
      use(v, "an input");
      inputs.push_back(g_.type(v));
    }
    const Types inferred = def->infer(inputs, node.attrs);
    DLCORE_CHECK(inferred.size() == node.outputs.size(), Value, "[", node.op, "] has ", inferred.size(), " outputs, ",
                 node.outputs.size(), " are stated");
    for (size_t i = 0; i < inferred.size(); ++i) {
      define(node.outputs[i], static_cast<NodeId>(index));
      DLCORE_CHECK(inferred[i] == g_.type(node.outputs[i]), Value, "[", node.op, "] output ", i, " is stated as ",
                   to_string(g_.type(node.outputs[i])), ", its inputs make it ", to_string(inferred[i]));
    }
  }

  void results() {
    for (size_t v = 0; v < defined_.size(); ++v) DLCORE_CHECK(defined_[v], Value, "value ", v, " is never defined");
    for (const Output& o : g_.outputs) use(o.value, "an output");
    std::unordered_map<ValueId, const Leaf*> targets;
    for (const Leaf& leaf : g_.leaves)
      if (leaf.role == Role::Param || leaf.role == Role::State) targets[leaf.value] = &leaf;
    std::unordered_set<ValueId> updated;
    for (const Update& u : g_.updates) {
      use(u.value, "an update");
      const auto it = targets.find(u.state);
      DLCORE_CHECK(it != targets.end(), Value, "only a param or a state can be updated");
      const std::string& name = it->second->name;
      DLCORE_CHECK(updated.insert(u.state).second, Value, "'", name, "' is updated twice");
      DLCORE_CHECK(g_.type(u.state) == g_.type(u.value), Value, "'", name, "' is ", to_string(g_.type(u.state)),
                   " and cannot be updated with ", to_string(g_.type(u.value)));
    }
  }

 private:
  void define(ValueId v, NodeId producer) {
    DLCORE_CHECK(in_range(v), Value, "value ", v, " is out of range");
    DLCORE_CHECK(!defined_[static_cast<size_t>(v)], Value, "value ", v, " is defined twice");
    DLCORE_CHECK(g_.values[static_cast<size_t>(v)].producer == producer, Value, "value ", v, " names another producer");
    check_type(g_.type(v));
    defined_[static_cast<size_t>(v)] = true;
  }
  void use(ValueId v, const char* what) const {
    DLCORE_CHECK(in_range(v) && defined_[static_cast<size_t>(v)], Value, what, " is value ", v,
                 ", which is not defined before");
  }
  bool in_range(ValueId v) const { return v >= 0 && static_cast<size_t>(v) < defined_.size(); }

  const Graph& g_;
  std::vector<bool> defined_;
};

}  // namespace

void verify(const Graph& graph) {
  Verifier verifier(graph);
  verifier.leaves();
  for (size_t i = 0; i < graph.nodes.size(); ++i) try {
      verifier.node(i);
    } catch (const Error& e) {
      const std::string& where = graph.nodes[i].where;
      fail(ErrorKind::Value, "node ", i, where.empty() ? "" : " in layer '" + where + "'", ": ", e.what());
    }
  verifier.results();
}

Graph parse(const std::string& text, const std::map<std::string, Tensor>& constants) {
  std::vector<int> lines;
  Graph graph = parse_syntax(text, constants, lines);
  Verifier verifier(graph);
  verifier.leaves();
  for (size_t i = 0; i < graph.nodes.size(); ++i) try {
      verifier.node(i);
    } catch (const Error& e) {
      fail(ErrorKind::Value, "line ", lines[i], ": ", e.what());
    }
  verifier.results();
  return graph;
}

}  // namespace dlcore
