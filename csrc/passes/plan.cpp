#include "passes/plan.h"

#include <algorithm>
#include <queue>

#include "base/error.h"
#include "ops/op.h"

namespace dlcore {

namespace {

constexpr int64_t kAlign = 64;

struct Planner {
  const Graph& g;
  Plan plan;
  std::vector<std::vector<NodeId>> readers;  // by value, nodes that read it or a view of it
  std::vector<ValueId> root;                 // the value whose memory this one is
  std::vector<std::vector<NodeId>> extra;    // ordering edges besides the data's: reader of a state → its update
  std::vector<int> position;                 // of a node in the order
  std::vector<ValueId> donated;              // by value: the state it is written over, or kNone

  explicit Planner(const Graph& graph) : g(graph) {}

  bool is_view(const Node& n) const { return get_op(n.op).flags & kView; }

  // Output `o` of n may be written over its input number i: the kernel promises it.
  bool may_overwrite(const Node& n, size_t o, size_t i) const {
    if (g.type(n.outputs[o]) != g.type(n.inputs[i])) return false;
    if (n.op == "fused") return n.outputs.size() == 1;  // stores a tile only after reading it
    for (const InPlace& p : get_op(n.op).in_place)
      if (p.output == static_cast<int>(o) && p.input == static_cast<int>(i)) return true;
    return false;
  }

  // Every input of n that lies in `memory` may be overwritten by output o.
  bool safe_over(const Node& n, size_t o, ValueId memory) const {
    for (size_t i = 0; i < n.inputs.size(); ++i)
      if (root[n.inputs[i]] == memory && !may_overwrite(n, o, i)) return false;
    return true;
  }

  void find_roots() {
    root.resize(g.values.size());
    readers.resize(g.values.size());
    for (size_t v = 0; v < root.size(); ++v) root[v] = static_cast<ValueId>(v);
    for (size_t k = 0; k < g.nodes.size(); ++k) {
      const Node& n = g.nodes[k];
      if (is_view(n)) root[n.outputs[0]] = root[n.inputs[0]];
      for (ValueId v : n.inputs) readers[root[v]].push_back(static_cast<NodeId>(k));
    }
  }

  // Whether `to` comes after `from` by data or by an ordering edge.
  bool reaches(NodeId from, const std::vector<bool>& targets) const {
    std::vector<bool> seen(g.nodes.size());
    std::vector<NodeId> stack{from};
    const auto push = [&](NodeId k) {
      if (!seen[k]) seen[k] = true, stack.push_back(k);
    };
    while (!stack.empty()) {
      const NodeId k = stack.back();
      stack.pop_back();
      if (targets[k]) return true;
      for (ValueId v : g.nodes[k].outputs)
        for (NodeId r : readers_of_value(v)) push(r);
      for (NodeId r : extra[k]) push(r);
    }
    return false;
  }
  const std::vector<NodeId>& readers_of_value(ValueId v) const { return direct[v]; }
  std::vector<std::vector<NodeId>> direct;  // by value, nodes that read just it

  // A state is written in place when the node that makes its new value may overwrite it and every other reader of the
  // old value can come first.
  void donate() {
    donated.assign(g.values.size(), kNone);
    extra.resize(g.nodes.size());
    direct.resize(g.values.size());
    for (size_t k = 0; k < g.nodes.size(); ++k)
      for (ValueId v : g.nodes[k].inputs) direct[v].push_back(static_cast<NodeId>(k));
    for (const Update& u : g.updates) {
      const NodeId k = g.values[u.value].producer;
      if (k == kNone || root[u.value] != u.value || donated[u.value] != kNone) continue;
      const Node& n = g.nodes[k];
      if (is_view(n)) continue;
      const size_t o = static_cast<size_t>(std::find(n.outputs.begin(), n.outputs.end(), u.value) - n.outputs.begin());
      if (!safe_over(n, o, u.state)) continue;
      bool old_wanted = false;  // an output or another update that wants the old state would see the new one
      for (const Output& out : g.outputs) old_wanted |= root[out.value] == u.state;
      for (const Update& other : g.updates) old_wanted |= root[other.value] == u.state;
      if (old_wanted) continue;
      std::vector<bool> targets(g.nodes.size());
      bool any = false;
      for (NodeId r : readers[u.state])
        if (r != k) targets[r] = any = true;
      if (any && reaches(k, targets)) continue;
      for (NodeId r : readers[u.state])
        if (r != k) extra[r].push_back(k);
      donated[u.value] = u.state;
    }
  }

  void order() {
    const size_t count = g.nodes.size();
    std::vector<int> waiting(count);
    std::vector<bool> updates(count);
    for (size_t k = 0; k < count; ++k) {
      for (ValueId v : g.nodes[k].inputs) waiting[k] += g.values[v].producer != kNone;
      for (NodeId r : extra[k]) ++waiting[r];
      for (ValueId v : g.nodes[k].outputs) updates[k] = updates[k] || donated[v] != kNone;
    }
    // As the graph has it, but updates as early as they can: that frees the gradients.
    const auto later = [&](NodeId a, NodeId b) { return updates[a] != updates[b] ? updates[b] : a > b; };
    std::priority_queue<NodeId, std::vector<NodeId>, decltype(later)> ready(later);
    for (size_t k = 0; k < count; ++k)
      if (!waiting[k]) ready.push(static_cast<NodeId>(k));
    position.assign(count, -1);
    const auto release = [&](NodeId r) {
      if (--waiting[r] == 0) ready.push(r);
    };
    while (!ready.empty()) {
      const NodeId k = ready.top();
      ready.pop();
      position[k] = static_cast<int>(plan.order.size());
      plan.order.push_back(k);
      for (ValueId v : g.nodes[k].outputs)
        for (NodeId r : direct[v]) release(r);
      for (NodeId r : extra[k]) release(r);
    }
    DLCORE_CHECK(plan.order.size() == count, Runtime, "the planner found no order for ", count, " nodes");
  }

  void place() {
    plan.places.resize(g.values.size());
    int64_t inputs = 0;
    for (size_t i = 0; i < g.leaves.size(); ++i) {
      const Leaf& leaf = g.leaves[i];
      Place& p = plan.places[leaf.value];
      if (leaf.role == Role::Input)
        p = {Place::Input, inputs++};
      else
        p = {leaf.role == Role::Const ? Place::Const : Place::State, static_cast<int64_t>(i)};
    }
    for (size_t v = 0; v < g.values.size(); ++v)
      if (donated[v] != kNone) plan.places[v] = plan.places[donated[v]];
    // A node writes an output's memory itself, unless another output or a view already has it.
    for (size_t i = 0; i < g.outputs.size(); ++i) {
      const ValueId v = g.outputs[i].value;
      if (plan.places[root[v]].kind == Place::None) plan.places[root[v]] = {Place::Output, static_cast<int64_t>(i)};
    }
    place_arena();
    for (size_t v = 0; v < g.values.size(); ++v) plan.places[v] = plan.places[root[v]];
  }

  struct Block {
    ValueId value;
    int64_t bytes;
    int first, last;  // positions
    int64_t offset = -1;
  };

  void place_arena() {
    std::vector<int> last(g.values.size(), -1);
    for (size_t v = 0; v < g.values.size(); ++v) {
      for (NodeId r : readers[v]) last[v] = std::max(last[v], position[r]);
      if (g.values[v].producer != kNone) last[v] = std::max(last[v], position[g.values[v].producer]);
    }
    for (const Update& u : g.updates)
      if (donated[u.value] == kNone) last[root[u.value]] = static_cast<int>(plan.order.size());
    for (const Output& out : g.outputs) last[root[out.value]] = static_cast<int>(plan.order.size());
    std::vector<Block> blocks;
    std::vector<int> block_of(g.values.size(), -1);
    for (NodeId k : plan.order) {
      const Node& n = g.nodes[k];
      for (size_t o = 0; o < n.outputs.size(); ++o) {
        const ValueId v = n.outputs[o];
        if (root[v] != v || plan.places[v].kind != Place::None) continue;
        // Over an input that nobody reads afterwards, if the kernel allows it.
        for (size_t i = 0; i < n.inputs.size() && block_of[v] < 0; ++i) {
          const int b = block_of[root[n.inputs[i]]];
          if (b < 0 || blocks[b].last != position[k] || !may_overwrite(n, o, i)) continue;
          bool safe = true;  // no other input, nor an earlier output of this node, lies there
          for (size_t j = 0; j < n.inputs.size(); ++j)
            safe &= block_of[root[n.inputs[j]]] != b || may_overwrite(n, o, j);
          for (size_t j = 0; j < o; ++j) safe &= block_of[root[n.outputs[j]]] != b;
          if (!safe) continue;
          block_of[v] = b;
          blocks[b].last = last[v];
        }
        if (block_of[v] >= 0) continue;
        const int64_t bytes = (byte_size(g.type(v)) + kAlign - 1) / kAlign * kAlign;
        block_of[v] = static_cast<int>(blocks.size());
        blocks.push_back({v, bytes, position[k], last[v]});
      }
    }
    const int64_t total = pack(blocks);
    plan.arena_bytes = static_cast<size_t>(total);
    for (size_t v = 0; v < g.values.size(); ++v)
      if (block_of[v] >= 0) plan.places[v] = {Place::Arena, blocks[block_of[v]].offset};
  }

  // Largest first, each at the lowest offset that is free while it lives.
  static int64_t pack(std::vector<Block>& blocks) {
    std::vector<Block*> by_size, placed;
    for (Block& b : blocks) by_size.push_back(&b);
    std::stable_sort(by_size.begin(), by_size.end(), [](auto* a, auto* b) { return a->bytes > b->bytes; });
    int64_t total = 0;
    for (Block* b : by_size) {
      int64_t offset = 0;
      for (const Block* p : placed) {  // in ascending offset
        if (p->last < b->first || b->last < p->first) continue;
        if (offset + b->bytes <= p->offset) break;
        offset = std::max(offset, p->offset + p->bytes);
      }
      b->offset = offset;
      DLCORE_CHECK(b->bytes < (int64_t{1} << 60) && offset < (int64_t{1} << 60), Memory,
                   "the plan needs too much memory");
      total = std::max(total, offset + b->bytes);
      placed.insert(
          std::upper_bound(placed.begin(), placed.end(), b, [](auto* x, auto* y) { return x->offset < y->offset; }), b);
    }
    return total;
  }

  void add_copies() {
    const auto bytes = [&](ValueId v) { return static_cast<size_t>(byte_size(g.type(v))); };
    for (size_t i = 0; i < g.outputs.size(); ++i) {
      const Place to{Place::Output, static_cast<int64_t>(i)}, from = plan.places[g.outputs[i].value];
      if (from.kind != Place::Output || from.index != to.index)
        plan.copies.push_back({from, to, bytes(g.outputs[i].value)});
    }
    // A new value that lies in a state's own memory is saved first, so that states may change places with each other.
    std::vector<Copy> writes;
    for (const Update& u : g.updates) {
      if (donated[u.value] == u.state) continue;
      Place from = plan.places[u.value];
      const size_t size = bytes(u.value);
      if (from.kind == Place::State) {
        const Place saved{Place::Arena, static_cast<int64_t>(plan.arena_bytes)};
        plan.arena_bytes += (size + kAlign - 1) / kAlign * kAlign;
        plan.copies.push_back({from, saved, size});
        from = saved;
      }
      writes.push_back({from, plan.places[u.state], size});
    }
    plan.copies.insert(plan.copies.end(), writes.begin(), writes.end());
  }
};

std::string describe(const Place& p) {
  constexpr const char* names[] = {"none", "input", "state", "const", "arena", "output"};
  return format(names[p.kind], " ", p.index);
}

}  // namespace

Plan make_plan(const Graph& graph) {
  for (const Update& u : graph.updates) {
    const Leaf* leaf = graph.leaf(u.state);
    DLCORE_CHECK(leaf && (leaf->role == Role::Param || leaf->role == Role::State), Value,
                 "only a parameter or a state can be updated", leaf ? ", not '" + leaf->name + "'" : "");
    DLCORE_CHECK(graph.type(u.state) == graph.type(u.value), Value, "the update of '", leaf->name, "' should be ",
                 to_string(graph.type(u.state)), ", got ", to_string(graph.type(u.value)));
  }
  Planner planner(graph);
  planner.find_roots();
  planner.donate();
  planner.order();
  planner.place();
  planner.add_copies();
  return std::move(planner.plan);
}

std::string print(const Graph& graph, const Plan& plan) {
  std::string s = format("arena ", plan.arena_bytes, " bytes\n");
  for (NodeId k : plan.order) {
    const Node& n = graph.nodes[k];
    s += n.op + "(";
    for (size_t i = 0; i < n.inputs.size(); ++i) s += (i ? ", " : "") + describe(plan.places[n.inputs[i]]);
    s += ") →";
    for (ValueId v : n.outputs) s += " " + describe(plan.places[v]) + " " + to_string(graph.type(v));
    s += n.where.empty() ? "\n" : "  @" + n.where + "\n";
  }
  for (const Copy& c : plan.copies) s += format("copy ", describe(c.from), " → ", describe(c.to), "\n");
  return s;
}

}  // namespace dlcore
