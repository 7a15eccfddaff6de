// Gathers element-wise float32 nodes of one shape into `fused` nodes (grammar: docs/ops.md). A group grows along edges
// as long as it stays within the tile kernel's limits and no path leaves it and comes back. Booleans never cross its
// border: a node computes the comparisons it needs itself.
#include <algorithm>
#include <cmath>
#include <optional>
#include <queue>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "base/tile_code.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

constexpr size_t kMaxInstructions = 32, kMaxInputs = 16, kMaxOutputs = 8;
constexpr size_t kMaxDistance =
    1024;  // nodes between producer and consumer, so that huge graphs take no quadratic time
constexpr size_t kMaxCondition =
    8;  // instructions of one boolean expression, computed anew in each group that needs it

bool one_of(std::string_view op, std::initializer_list<std::string_view> ops) {
  return std::find(ops.begin(), ops.end(), op) != ops.end();
}

bool is_arithmetic(std::string_view op) {
  return one_of(op,
                {"sqrt", "rsqrt",   "reciprocal", "exp",     "expm1",      "log",       "log1p", "sin",      "cos",
                 "tanh", "sigmoid", "erf",        "gelu",    "gelu_slope", "gelu_tanh", "silu",  "softplus", "floor",
                 "ceil", "round",   "neg",        "abs",     "sign",       "relu",      "add",   "sub",      "mul",
                 "div",  "pow",     "maximum",    "minimum", "remainder",  "where"});
}
bool is_comparison(std::string_view op) { return one_of(op, {"eq", "ne", "lt", "le", "gt", "ge"}); }
bool is_logical(std::string_view op) { return one_of(op, {"logical_and", "logical_or", "logical_xor", "logical_not"}); }

struct Group {
  std::vector<NodeId> members;  // ascending
  std::set<ValueId> inputs;     // float values from outside
  size_t instructions = 0, outputs = 0;
};

class Fuser {
 public:
  explicit Fuser(const Graph& g) : g_(g), users_(g.values.size()), wanted_(g.values.size(), 0) {
    for (size_t i = 0; i < g.nodes.size(); ++i)
      for (ValueId v : g.nodes[i].inputs)
        if (auto& users = users_[static_cast<size_t>(v)]; users.empty() || users.back() != static_cast<NodeId>(i))
          users.push_back(static_cast<NodeId>(i));
    for (const Output& o : g.outputs) wanted_[static_cast<size_t>(o.value)] = 1;
    for (const Update& u : g.updates) wanted_[static_cast<size_t>(u.value)] = 1;
    for (const Leaf& leaf : g.leaves)
      if (leaf.role == Role::Const) constants_[leaf.value] = &leaf;
    const size_t n = g.nodes.size();
    literals_.resize(g.values.size());
    conditions_.resize(g.values.size());
    group_of_.resize(n);
    groups_.resize(n);
    leaves_.resize(n);
    seen_.assign(n, -1);
    for (size_t i = 0; i < n; ++i) {
      order_.push_back(static_cast<NodeId>(i));
      position_.push_back(i);
    }
  }

  Graph run() {
    find_literals();
    find_conditions();
    find_candidates();
    for (size_t i = 0; i < g_.nodes.size(); ++i)
      if (!groups_[i].members.empty())
        for (ValueId v : std::vector<ValueId>(leaves_[i].begin(), leaves_[i].end()))
          try_merge(v, static_cast<NodeId>(i));
    return build();
  }

 private:
  const Node& node(NodeId i) const { return g_.nodes[static_cast<size_t>(i)]; }
  NodeId producer(ValueId v) const { return g_.values[static_cast<size_t>(v)].producer; }
  bool is_f32(ValueId v) const { return g_.dtype(v) == DType::F32; }

  // --- What a node is.
  void find_literals() {
    for (size_t v = 0; v < g_.values.size(); ++v) {
      const auto id = static_cast<ValueId>(v);
      double value = NAN;
      if (const Node* p = g_.producer(id); p && p->op == "full") {
        value = p->attrs.real("value");
        if (g_.dtype(id) == DType::Bool) value = value != 0;
      } else if (const auto it = constants_.find(id); it != constants_.end() && numel(g_.shape(id)) == 1) {
        if (is_f32(id)) value = *it->second->data.ptr<float>();
      }
      if (is_f32(id)) value = static_cast<float>(value);
      const bool fits = is_f32(id) || g_.dtype(id) == DType::Bool;
      if (fits && std::isfinite(value)) literals_[v] = static_cast<float>(value);
    }
  }

  // A boolean value has a condition when it can be computed from float values inside a group: its length.
  void find_conditions() {
    for (size_t v = 0; v < g_.values.size(); ++v)
      if (literals_[v] && g_.dtype(static_cast<ValueId>(v)) == DType::Bool) conditions_[v] = 1;
    for (const Node& n : g_.nodes) {
      if (n.outputs.size() != 1 || g_.dtype(n.outputs[0]) != DType::Bool) continue;
      if (!is_comparison(n.op) && !is_logical(n.op) && !one_of(n.op, {"cast", "isnan", "where"})) continue;
      const size_t length = length_of(n);
      if (length <= kMaxCondition) conditions_[static_cast<size_t>(n.outputs[0])] = length;
    }
  }

  bool is_condition(NodeId n) const {
    return node(n).outputs.size() == 1 && conditions_[static_cast<size_t>(node(n).outputs[0])] != 0;
  }

  // Instructions the node takes with its conditions; more than any limit when it cannot be fused.
  size_t length_of(const Node& n) const {
    size_t length = 1;
    for (ValueId v : n.inputs) {
      if (is_f32(v)) continue;
      const size_t condition = conditions_[static_cast<size_t>(v)];
      if (condition == 0) return kMaxInstructions + 1;
      length += condition;
    }
    return length;
  }

  // The float values a node reads, itself or through its conditions. False: it needs something else.
  void collect_leaves(const Node& n, std::set<ValueId>& leaves) const {
    for (ValueId v : n.inputs) {
      if (literals_[static_cast<size_t>(v)]) continue;
      if (is_f32(v))
        leaves.insert(v);
      else
        collect_leaves(node(producer(v)), leaves);
    }
  }

  void find_candidates() {
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      group_of_[i] = static_cast<NodeId>(i);
      const Node& n = g_.nodes[i];
      if (n.outputs.size() != 1 || !is_f32(n.outputs[0])) continue;
      const bool flag_as_float = n.op == "cast" && g_.dtype(n.inputs[0]) == DType::Bool;
      if (!is_arithmetic(n.op) && !flag_as_float) continue;
      const size_t length = length_of(n);
      if (length > kMaxInstructions) continue;
      std::set<ValueId> leaves;
      collect_leaves(n, leaves);
      Shape shape;  // literals give no shape: the other operands alone must make the output's
      for (ValueId v : leaves) shape = broadcast(shape, g_.shape(v), "fused");
      if (leaves.empty() || leaves.size() > kMaxInputs || shape != g_.shape(n.outputs[0])) continue;
      groups_[i] = {{static_cast<NodeId>(i)}, leaves, length, 1};
      leaves_[i] = std::move(leaves);
    }
  }

  // --- Groups.
  void try_merge(ValueId v, NodeId consumer) {
    const NodeId from = producer(v);
    if (from == kNone || groups_[static_cast<size_t>(in_group(from))].members.empty()) return;
    const NodeId a = group_of_[static_cast<size_t>(from)], b = group_of_[static_cast<size_t>(consumer)];
    if (a == b || g_.shape(v) != g_.shape(node(consumer).outputs[0])) return;
    if (position(b) - position(a) > kMaxDistance) return;
    Group& x = groups_[static_cast<size_t>(a)];
    Group& y = groups_[static_cast<size_t>(b)];
    Group sum;
    sum.instructions = x.instructions + y.instructions;
    if (sum.instructions > kMaxInstructions) return;
    std::merge(x.members.begin(), x.members.end(), y.members.begin(), y.members.end(), std::back_inserter(sum.members));
    for (const Group* part : {&x, &y})
      for (ValueId in : part->inputs)
        if (const NodeId p = producer(in); p == kNone || (in_group(p) != a && in_group(p) != b)) sum.inputs.insert(in);
    for (NodeId m : sum.members) sum.outputs += needed_outside(node(m).outputs[0], a, b);
    if (sum.inputs.size() > kMaxInputs || sum.outputs > kMaxOutputs || path_outside(a, b)) return;
    reorder(a, b);
    for (NodeId m : x.members) group_of_[static_cast<size_t>(m)] = b;
    x = {};
    y = std::move(sum);
  }

  NodeId in_group(NodeId n) const { return group_of_[static_cast<size_t>(n)]; }

  // Whether anything but members of groups a and b reads v. Conditions are read by those who compute them.
  bool needed_outside(ValueId v, NodeId a, NodeId b) const {
    if (wanted_[static_cast<size_t>(v)]) return true;
    for (NodeId user : users_[static_cast<size_t>(v)]) {
      if (in_group(user) == a || in_group(user) == b) continue;
      if (!is_condition(user) || needed_outside(node(user).outputs[0], a, b)) return true;
    }
    return false;
  }

  // Calls visit(unit) for each unit that reads a result of this one. A condition is no station of its own: its readers
  // compute it themselves.
  template <class Visit>
  void for_readers(NodeId unit, const Visit& visit) const {
    const Group& group = groups_[static_cast<size_t>(unit)];
    if (group.members.empty()) {
      for (ValueId v : node(unit).outputs) for_readers_of(v, visit);
    } else {
      for (NodeId m : group.members) for_readers_of(node(m).outputs[0], visit);
    }
  }
  template <class Visit>
  void for_readers_of(ValueId v, const Visit& visit) const {
    for (NodeId user : users_[static_cast<size_t>(v)]) {
      if (is_condition(user))
        for_readers_of(node(user).outputs[0], visit);
      else
        visit(in_group(user));
    }
  }

  // Whether a path runs from unit a through a third one to unit b; merged, they would form a cycle. Only units between
  // the two in topological order can lie on it. Marks those that depend on a with the current stamp.
  bool path_outside(NodeId a, NodeId b) {
    ++stamp_;
    std::vector<NodeId> stack;
    bool found = false;
    const auto visit_from = [&](NodeId from) {
      for_readers(from, [&](NodeId to) {
        if (to == b && from != a) found = true;
        if (to == a || position(to) >= position(b) || seen_[static_cast<size_t>(to)] == stamp_) return;
        seen_[static_cast<size_t>(to)] = stamp_;
        stack.push_back(to);
      });
    };
    visit_from(a);
    while (!stack.empty() && !found) {
      const NodeId unit = stack.back();
      stack.pop_back();
      visit_from(unit);
    }
    return found;
  }

  // Keeps the units in topological order when a joins b: what depends on a (marked by path_outside) moves behind them.
  void reorder(NodeId a, NodeId b) {
    const size_t first = position(a), last = position(b);
    std::vector<NodeId> behind;
    size_t to = first;
    const auto place = [&](NodeId unit) {
      position_[static_cast<size_t>(unit)] = to;
      order_[to++] = unit;
    };
    for (size_t i = first + 1; i < last; ++i) {
      const NodeId unit = order_[i];
      if (unit == kNone) continue;
      if (seen_[static_cast<size_t>(unit)] == stamp_)
        behind.push_back(unit);
      else
        place(unit);
    }
    place(b);
    for (NodeId unit : behind) place(unit);
    while (to <= last) order_[to++] = kNone;  // holes: closing up would cost a walk to the end
  }

  size_t position(NodeId unit) const { return position_[static_cast<size_t>(unit)]; }

  // --- The new graph: groups and other nodes in topological order, late rather than early.
  Graph build() {
    const size_t n = g_.nodes.size();
    std::vector<std::vector<NodeId>> next(n);
    std::vector<int> waits(n, 0);
    using Ready = std::pair<NodeId, NodeId>;  // last member, unit
    std::priority_queue<Ready, std::vector<Ready>, std::greater<>> ready;
    std::vector<NodeId> units;
    for (size_t i = 0; i < n; ++i)
      if (const auto u = static_cast<NodeId>(i); group_of_[i] == u && (!is_condition(u) || is_read(u)))
        units.push_back(u);
    const auto last_member = [&](NodeId u) { return is_fused(u) ? groups_[static_cast<size_t>(u)].members.back() : u; };
    for (NodeId u : units) {
      std::set<NodeId> before;
      const auto need = [&](ValueId v) {
        if (producer(v) != kNone) before.insert(in_group(producer(v)));
      };
      if (is_fused(u))
        for (ValueId v : groups_[static_cast<size_t>(u)].inputs) need(v);
      else
        for (ValueId v : node(u).inputs) need(v);
      for (NodeId p : before) next[static_cast<size_t>(p)].push_back(u);
      waits[static_cast<size_t>(u)] = static_cast<int>(before.size());
      if (before.empty()) ready.emplace(last_member(u), u);
    }
    Rewrite r(g_);
    size_t done = 0;
    while (!ready.empty()) {
      const NodeId u = ready.top().second;
      ready.pop();
      ++done;
      if (is_fused(u))
        append_fused(r, u);
      else
        r.keep(node(u));
      for (NodeId user : next[static_cast<size_t>(u)])
        if (--waits[static_cast<size_t>(user)] == 0) ready.emplace(last_member(user), user);
    }
    DLCORE_CHECK(done == units.size(), Runtime, "[fuse] the groups form a cycle");
    return eliminate_dead_code(r.finish());
  }

  // Whether a node outside the groups still reads this condition.
  bool is_read(NodeId condition) const {
    const ValueId v = node(condition).outputs[0];
    const auto& users = users_[static_cast<size_t>(v)];
    return wanted_[static_cast<size_t>(v)] || std::any_of(users.begin(), users.end(), [&](NodeId user) {
             return is_condition(user) ? is_read(user) : !is_fused(in_group(user));
           });
  }

  // One plain instruction is better off in its own kernel.
  bool is_fused(NodeId unit) const { return groups_[static_cast<size_t>(unit)].instructions > 1; }

  void append_fused(Rewrite& r, NodeId unit) {
    const Group& group = groups_[static_cast<size_t>(unit)];
    Node fused;
    fused.op = "fused";
    fused.where = node(group.members.back()).where;
    std::unordered_map<ValueId, std::string> operands;
    for (ValueId v : group.inputs) {
      operands[v] = "x" + std::to_string(fused.inputs.size());
      fused.inputs.push_back(r(v));
    }
    std::string code, out;
    int instructions = 0;
    std::unordered_map<std::string, size_t> output_of;
    std::vector<std::pair<ValueId, size_t>> results;
    Types types;
    for (NodeId m : group.members) {
      const ValueId v = node(m).outputs[0];
      const std::string name = operand(v, operands, code, instructions);
      if (!needed_outside(v, unit, unit)) continue;
      const auto [it, fresh] = output_of.try_emplace(name, types.size());
      if (fresh) {
        out += (out.empty() ? "" : ",") + name;
        types.push_back(g_.type(v));
      }
      results.emplace_back(v, it->second);
    }
    fused.attrs.set("code", code + "out " + out);
    const std::vector<ValueId> made = r.to.add_node(std::move(fused), std::move(types));
    for (const auto& [v, i] : results) r.set(v, made[i]);
  }

  // The name of a value inside a group: an input, a literal, or the result of an instruction, written when first asked
  // for.
  std::string operand(ValueId v, std::unordered_map<ValueId, std::string>& operands, std::string& code, int& count) {
    if (const auto it = operands.find(v); it != operands.end()) return it->second;
    if (const std::optional<float> literal = literals_[static_cast<size_t>(v)])
      return print_operand({TileOperand::Kind::Literal, 0, *literal});
    const Node& n = node(producer(v));
    std::vector<std::string> args;
    for (ValueId in : n.inputs) args.push_back(operand(in, operands, code, count));
    std::string op = n.op;
    if (op == "cast" && is_f32(v)) return operands[v] = args[0];  // a comparison gives 1.0 or 0.0 already
    if (op == "cast") {
      op = "ne";
      args.push_back("#0x0p+0");
    } else if (op == "isnan") {
      op = "ne";
      args.push_back(args[0]);
    }
    const std::string name = "t" + std::to_string(count++);
    code += name + "=" + op + "(";
    for (size_t i = 0; i < args.size(); ++i) code += (i ? "," : "") + args[i];
    code += ");";
    return operands[v] = name;
  }

  const Graph& g_;
  std::vector<std::vector<NodeId>> users_;  // of each value
  std::vector<char> wanted_;                // a value is an output or an update
  std::unordered_map<ValueId, const Leaf*> constants_;
  std::vector<std::optional<float>> literals_;  // of each value
  std::vector<size_t> conditions_;              // of each value: length of its boolean expression, 0: none
  std::vector<NodeId> group_of_;                // of each node; a node without a group is its own unit
  std::vector<Group> groups_;                   // at the index of one member; others are empty
  std::vector<std::set<ValueId>> leaves_;       // of each candidate
  std::vector<int> seen_;
  int stamp_ = 0;
  std::vector<NodeId> order_;  // units in topological order; positions are its inverse
  std::vector<size_t> position_;
};

}  // namespace

Graph fuse(const Graph& graph) {
  const Graph live = eliminate_dead_code(graph);
  return Fuser(live).run();
}

}  // namespace dlcore
