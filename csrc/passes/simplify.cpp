// Algebra that keeps every bit but the sign of a zero, common subexpressions, dead code. One walk is enough: a node's
// producers are simple already.
#include <algorithm>
#include <array>
#include <numeric>
#include <unordered_map>

#include "base/error.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

bool one_of(std::string_view op, std::initializer_list<std::string_view> ops) {
  return std::find(ops.begin(), ops.end(), op) != ops.end();
}

IntList normalized_perm(const Node& transpose) {
  IntList perm = transpose.attrs.ints("perm");
  for (int64_t& axis : perm) axis = normalize_axis(axis, static_cast<int>(perm.size()), "transpose");
  return perm;
}

// A transpose that leaves the order of the axes longer than 1 moves nothing in memory.
bool only_moves_ones(const IntList& perm, const Shape& shape) {
  int64_t last = -1;
  for (int64_t axis : perm) {
    if (shape[static_cast<size_t>(axis)] == 1) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

class Simplifier {
 public:
  explicit Simplifier(const Graph& graph) : r_(graph), g_(r_.to) {}

  Graph run() {
    for (const Node& node : r_.from.nodes) {
      const std::vector<ValueId> outputs = simplified(r_.mapped(node), types_of(r_.from, node.outputs));
      for (size_t i = 0; i < outputs.size(); ++i) r_.set(node.outputs[i], outputs[i]);
    }
    Graph out = r_.finish();
    std::erase_if(out.updates, [](const Update& u) { return u.state == u.value; });
    copy_leaf_results(out);
    return eliminate_dead_code(out);
  }

 private:
  std::vector<ValueId> simplified(Node node, Types types) {
    constexpr int kMaxSteps =
        16;  // each step makes the node simpler; the limit only guards against a rule that does not
    for (int step = 0; step < kMaxSteps; ++step) {
      if (types.size() != 1) {
        if (!shrink_inputs(node, types[0])) break;
        continue;
      }
      bool changed = false;
      const ValueId known = rule(node, types[0], changed);
      if (known != kNone) return {known};
      if (!changed) break;
    }
    return append(std::move(node), std::move(types));
  }

  // Appends a node unless the same one stands there already.
  std::vector<ValueId> append(Node node, Types types) {
    std::vector<ValueId> inputs = node.inputs;
    if (inputs.size() == 2 && has_flag(node.op, kCommutative)) std::sort(inputs.begin(), inputs.end());
    std::string key = node.op;
    for (ValueId v : inputs) key += " " + std::to_string(v);
    key += to_string(node.attrs);  // as text: 0.0 and -0.0 differ, and two NaNs do not
    const auto [it, fresh] = seen_.try_emplace(std::move(key));
    if (fresh) it->second = g_.add_node(std::move(node), std::move(types));
    return it->second;
  }

  const Node* made_by(ValueId v, std::string_view op) const {
    const Node* node = g_.producer(v);
    return node && node->op == op ? node : nullptr;
  }

  bool is_full(ValueId v, double value) const {
    const Node* node = made_by(v, "full");
    return node && node->attrs.real("value") == value;
  }

  // Turns the node into another one of the same result.
  static void become(Node& node, std::string_view op, std::vector<ValueId> inputs, Attrs attrs) {
    node.op = op;
    node.inputs = std::move(inputs);
    node.attrs = std::move(attrs);
  }
  static void become_full(Node& node, double value, const TensorType& t) {
    become(node, "full", {}, {{"value", value}, {"shape", t.shape}, {"dtype", std::string(name_of(t.dtype))}});
  }

  // The value that the node stands for (kNone: none known yet); `changed`: the node was rewritten, ask again.
  ValueId rule(Node& node, const TensorType& t, bool& changed) {
    const std::string& op = node.op;
    const auto same_type = [&](size_t i) { return g_.type(node.inputs[i]) == t; };
    if (op == "add" && is_full(node.inputs[1], 0) && same_type(0)) return node.inputs[0];
    if (op == "add" && is_full(node.inputs[0], 0) && same_type(1)) return node.inputs[1];
    if (op == "sub" && is_full(node.inputs[1], 0) && same_type(0)) return node.inputs[0];
    if (op == "mul" && is_full(node.inputs[1], 1) && same_type(0)) return node.inputs[0];
    if (op == "mul" && is_full(node.inputs[0], 1) && same_type(1)) return node.inputs[1];
    if (op == "div" && is_full(node.inputs[1], 1) && same_type(0)) return node.inputs[0];
    // The type alone tells that these do nothing: a slice of the whole size starts at 0 with step 1.
    if (one_of(op, {"copy", "stop_gradient", "cast", "reshape", "broadcast_to", "slice", "pad"}) && same_type(0))
      return node.inputs[0];
    if (op == "concat" && node.inputs.size() == 1) return node.inputs[0];
    if (op == "concat") return changed = flatten_concat(node), kNone;
    if (op == "add" && join_pads(node)) return changed = true, kNone;
    if (one_of(op, {"neg", "logical_not"}))
      if (const Node* inner = made_by(node.inputs[0], op)) return inner->inputs[0];
    if (op == "reshape") return reshape(node, t, changed), kNone;
    if (op == "transpose") return transpose(node, t, changed);
    if (op == "broadcast_to") return broadcast_to(node, t, changed), kNone;
    if (op == "slice")
      if (const Node* full = made_by(node.inputs[0], "full"))
        return become_full(node, full->attrs.real("value"), t), changed = true, kNone;
    if (op == "cast") return cast(node, t, changed), kNone;
    if (op == "reverse" || one_of(op, {"sum", "max", "min"})) return over_ones(node, t, changed);
    if (op == "matmul") return changed = absorb_transposes(node), kNone;
    if (op == "where" && mask_before_pool(node)) return changed = true, kNone;
    changed = shrink_inputs(node, t);
    return kNone;
  }

  void reshape(Node& node, const TensorType& t, bool& changed) {
    if (const Node* inner = made_by(node.inputs[0], "reshape")) {
      node.inputs[0] = inner->inputs[0];
      changed = true;
    } else if (const Node* full = made_by(node.inputs[0], "full")) {
      become_full(node, full->attrs.real("value"), t);
      changed = true;
    }
  }

  ValueId transpose(Node& node, const TensorType& t, bool& changed) {
    IntList perm = normalized_perm(node);
    const ValueId x = node.inputs[0];
    if (std::is_sorted(perm.begin(), perm.end())) return x;
    changed = true;
    if (const Node* inner = made_by(x, "transpose")) {
      const IntList first = normalized_perm(*inner);
      for (int64_t& axis : perm) axis = first[static_cast<size_t>(axis)];
      node.inputs[0] = inner->inputs[0];
      node.attrs.set("perm", perm);
    } else if (const Node* full = made_by(x, "full")) {
      become_full(node, full->attrs.real("value"), t);
    } else if (only_moves_ones(perm, g_.shape(x))) {
      become(node, "reshape", {x}, {{"shape", t.shape}});
    } else {
      changed = false;
    }
    return kNone;
  }

  void broadcast_to(Node& node, const TensorType& t, bool& changed) {
    const ValueId x = node.inputs[0];
    changed = true;
    if (const Node* inner = made_by(x, "broadcast_to"))
      node.inputs[0] = inner->inputs[0];
    else if (const Node* full = made_by(x, "full"))
      become_full(node, full->attrs.real("value"), t);
    else if (numel(g_.shape(x)) == numel(t.shape))
      become(node, "reshape", {x}, {{"shape", t.shape}});
    else
      changed = false;
  }

  void cast(Node& node, const TensorType& t, bool& changed) {
    const Node* full = made_by(node.inputs[0], "full");
    const DType from = g_.dtype(node.inputs[0]);
    const auto plain = [](DType d) { return d == DType::F32 || d == DType::F64; };
    if (full && plain(from) && plain(t.dtype)) {
      double value = full->attrs.real("value");
      if (from == DType::F32) value = static_cast<float>(value);
      become_full(node, value, t);
      changed = true;
    } else {
      changed = shrink_inputs(node, t);
    }
  }

  // Reversing or reducing axes of size 1 alone moves nothing.
  ValueId over_ones(Node& node, const TensorType& t, bool& changed) {
    const ValueId x = node.inputs[0];
    for (int64_t axis : node.attrs.ints("axes")) {
      const int rank = static_cast<int>(g_.shape(x).size());
      if (g_.shape(x)[static_cast<size_t>(normalize_axis(axis, rank, node.op.c_str()))] != 1) return kNone;
    }
    if (g_.type(x) == t) return x;
    become(node, "reshape", {x}, {{"shape", t.shape}});
    changed = true;
    return kNone;
  }

  bool flatten_concat(Node& node) {
    const int rank = static_cast<int>(g_.shape(node.inputs[0]).size());
    const int axis = normalize_axis(node.attrs.integer("axis"), rank, "concat");
    std::vector<ValueId> flat;
    for (ValueId v : node.inputs) {
      const Node* inner = made_by(v, "concat");
      if (inner && normalize_axis(inner->attrs.integer("axis"), rank, "concat") == axis)
        flat.insert(flat.end(), inner->inputs.begin(), inner->inputs.end());
      else
        flat.push_back(v);
    }
    const bool changed = flat.size() != node.inputs.size();
    node.inputs = std::move(flat);
    return changed;
  }

  // The axis along which alone a node pads with zeros, or -1.
  static int zero_padded_axis(const Node& pad) {
    const IntList &low = pad.attrs.ints("low"), &high = pad.attrs.ints("high");
    if (pad.attrs.real("value") != 0) return -1;
    int axis = -1;
    for (size_t i = 0; i < low.size(); ++i) {
      if (pad.attrs.ints("interior")[i] != 0) return -1;
      if (low[i] == 0 && high[i] == 0) continue;
      if (axis >= 0) return -1;
      axis = static_cast<int>(i);
    }
    return axis;
  }

  // The derivative of slices that tile an axis: the sum of their gradients, each padded with zeros, is their
  // concatenation.
  bool join_pads(Node& add) {
    const Node *first = made_by(add.inputs[0], "pad"), *second = made_by(add.inputs[1], "pad");
    if (!first || !second) return false;
    const int axis = zero_padded_axis(*first);
    if (axis < 0 || axis != zero_padded_axis(*second)) return false;
    const auto i = static_cast<size_t>(axis);
    if (first->attrs.ints("low")[i] > second->attrs.ints("low")[i]) std::swap(first, second);
    const ValueId a = first->inputs[0], b = second->inputs[0];
    IntList low = first->attrs.ints("low"), high = second->attrs.ints("high");
    if (g_.type(add.inputs[0]) != g_.type(add.inputs[1]) || low[i] + g_.shape(a)[i] != second->attrs.ints("low")[i])
      return false;
    TensorType type = g_.type(a);
    type.shape[i] += g_.shape(b)[i];
    const IntList interior(low.size(), 0);
    Node both;
    both.where = add.where;
    become(both, "concat", {a, b}, {{"axis", int64_t{axis}}});
    become(add, "pad", simplified(std::move(both), {type}),
           {{"low", std::move(low)}, {"high", std::move(high)}, {"interior", interior}, {"value", 0.0}});
    return true;
  }

  // A product reads its operands transposed as well: the chain over k stays the same.
  bool absorb_transposes(Node& node) {
    bool changed = false;
    constexpr std::array<const char*, 2> kFlags = {"transpose_a", "transpose_b"};
    for (size_t i = 0; i < 2; ++i) {
      const Node* inner = made_by(node.inputs[i], "transpose");
      if (!inner) continue;
      const IntList perm = normalized_perm(*inner);
      IntList swapped(perm.size());
      std::iota(swapped.begin(), swapped.end(), 0);
      if (swapped.size() < 2) continue;
      std::swap(swapped[swapped.size() - 1], swapped[swapped.size() - 2]);
      if (perm != swapped) continue;
      node.inputs[i] = inner->inputs[0];
      node.attrs.set(kFlags[i], int64_t{node.attrs.integer_or(kFlags[i], 0) == 0});
      changed = true;
    }
    return changed;
  }

  // The derivative of max_pool(relu(…)), where(x > 0, max_pool_backward(dy), 0): an element that gets anything is the
  // maximum of its windows, so masking dy where the maximum is not above 0 does the same to fewer elements.
  bool mask_before_pool(Node& where) {
    const Node *test = made_by(where.inputs[0], "gt"), *back = made_by(where.inputs[1], "max_pool2d_backward");
    if (!test || !back || !is_full(where.inputs[2], 0) || !is_full(test->inputs[1], 0)) return false;
    const ValueId x = test->inputs[0], zero = test->inputs[1], dy = back->inputs[0], index = back->inputs[1];
    const Node* pool = made_by(index, "max_pool2d");
    if (!pool || pool->inputs[0] != x || pool->outputs[1] != index || numel(g_.shape(zero)) != 1) return false;
    const ValueId y = pool->outputs[0];
    const Attrs attrs = back->attrs;
    Node positive, masked;
    positive.where = masked.where = where.where;
    become(positive, "gt", {y, zero}, {});
    const ValueId mask = append(std::move(positive), {{DType::Bool, g_.shape(y)}})[0];
    become(masked, "where", {mask, dy, zero}, {});
    const ValueId kept = append(std::move(masked), {g_.type(dy)})[0];
    become(where, "max_pool2d_backward", {kept, index}, attrs);
    return true;
  }

  // f(broadcast(x), y) = f(x, y): element-wise ops broadcast by themselves. Where that makes the result smaller, the
  // broadcast comes after: f(broadcast(x)) = broadcast(f(x)), on fewer elements.
  bool shrink_inputs(Node& node, const TensorType& t) {
    if (!is_pointwise(node.op)) return false;
    std::vector<ValueId> small = node.inputs;
    Shape shape;
    for (ValueId& x : small) {
      const Node* producer = g_.producer(x);
      if (producer && producer->op == "broadcast_to") {
        x = producer->inputs[0];
      } else if (producer && producer->op == "full" && !g_.shape(x).empty()) {
        Node scalar;
        scalar.where = producer->where;
        const TensorType type{g_.dtype(x), {}};
        become_full(scalar, producer->attrs.real("value"), type);
        x = append(std::move(scalar), {type})[0];
      }
      shape = broadcast(shape, g_.shape(x), node.op.c_str());
    }
    if (small == node.inputs) return false;
    if (shape == t.shape) {
      node.inputs = std::move(small);
      return true;
    }
    if (node.op == "fused") return false;
    Node f = node;
    f.inputs = std::move(small);
    become(node, "broadcast_to", simplified(std::move(f), {{t.dtype, std::move(shape)}}), {{"shape", t.shape}});
    return true;
  }

  // An update or an output that is now another leaf itself is read at the end of a run, when that leaf may have been
  // overwritten: a copy node states the order of reading and writing.
  static void copy_leaf_results(Graph& g) {
    std::vector<char> updated(g.values.size(), 0);
    for (const Update& u : g.updates) updated[static_cast<size_t>(u.state)] = 1;
    std::unordered_map<ValueId, ValueId> copies;
    const auto protect = [&](ValueId& v) {
      if (static_cast<size_t>(v) >= updated.size() || g.values[static_cast<size_t>(v)].producer != kNone) return;
      const auto [it, fresh] = copies.try_emplace(v, kNone);
      if (fresh) {
        Node copy;
        copy.op = "copy";
        copy.inputs = {v};
        it->second = g.add_node(std::move(copy), {g.type(v)})[0];
      }
      v = it->second;
    };
    for (Update& u : g.updates) protect(u.value);
    for (Output& o : g.outputs)
      if (updated[static_cast<size_t>(o.value)]) protect(o.value);
  }

  Rewrite r_;
  Graph& g_;
  std::unordered_map<std::string, std::vector<ValueId>> seen_;
};

}  // namespace

Graph simplify(const Graph& graph) { return Simplifier(graph).run(); }

}  // namespace dlcore
