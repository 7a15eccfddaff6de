// Reverse-mode differentiation by appending nodes. The derivative is written in the same ops, so it can be
// differentiated again, and every later pass serves it as it serves the forward part.
#include <algorithm>

#include "base/error.h"
#include "ops/op.h"
#include "passes/passes.h"

namespace dlcore {

namespace {

class Backward {
 public:
  Backward(Graph& g, std::span<const ValueId> wrt) : g_(g), reached_(g.values.size(), 0) {
    for (ValueId v : wrt) reached_[static_cast<size_t>(v)] = true;
    reach(0, g.nodes.size());
  }

  void add(ValueId v, ValueId contribution) {
    sums_.resize(std::max(sums_.size(), g_.values.size()));
    sums_[static_cast<size_t>(v)].push_back(contribution);
  }

  // The gradient of v: its contributions summed in the order in which the sweep met them, or kNone.
  ValueId sum(ValueId v) {
    if (static_cast<size_t>(v) >= sums_.size() || sums_[static_cast<size_t>(v)].empty()) return kNone;
    const Node* producer = g_.producer(v);
    const std::string where = producer ? producer->where : "";
    std::vector<ValueId> parts = std::move(sums_[static_cast<size_t>(v)]);
    // bfloat16 is added in float32 and rounded once.
    const bool half = parts.size() > 1 && g_.dtype(v) == DType::BF16;
    const auto cast = [&](ValueId part, const char* to) { return emit1(g_, "cast", {part}, {{"dtype", to}}, where); };
    if (half)
      for (ValueId& part : parts) part = cast(part, "f32");
    ValueId total = parts[0];
    for (size_t i = 1; i < parts.size(); ++i) total = emit1(g_, "add", {total, parts[i]}, {}, where);
    if (half) total = cast(total, "bf16");
    sums_[static_cast<size_t>(v)] = {total};
    return total;
  }

  // Nodes [begin, end), last first.
  void sweep(size_t begin, size_t end) {
    for (size_t i = end; i-- > begin;) {
      const Node node = g_.nodes[i];  // a copy: the graph grows
      if (std::none_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) { return is_reached(v); })) continue;
      std::vector<ValueId> dy;
      bool any = false;
      for (ValueId v : node.outputs) {
        dy.push_back(is_reached(v) ? sum(v) : kNone);
        any = any || dy.back() != kNone;
      }
      if (any) differentiate(node, dy);
    }
  }

 private:
  bool is_reached(ValueId v) const {
    return static_cast<size_t>(v) < reached_.size() && reached_[static_cast<size_t>(v)];
  }

  // Marks the float values of nodes [begin, end) that depend on a value of wrt through derivatives that may not vanish.
  void reach(size_t begin, size_t end) {
    reached_.resize(g_.values.size(), 0);
    for (size_t i = begin; i < end; ++i) {
      const Node& node = g_.nodes[i];
      if (std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return is_reached(v); })) continue;
      if (get_op(node.op).flags & kZeroGrad) continue;
      for (ValueId v : node.outputs)
        if (is_float(g_.dtype(v))) reached_[static_cast<size_t>(v)] = true;
    }
  }

  void differentiate(const Node& node, const std::vector<ValueId>& dy) {
    const OpDef& def = get_op(node.op);
    const size_t first = g_.nodes.size();
    if (!def.grad) {
      DLCORE_CHECK(def.decompose, Value, "[", node.op, "] has no derivative",
                   node.where.empty() ? "" : " (in layer '" + node.where + "')",
                   "; put stop_gradient around it if none should flow");
      const std::vector<ValueId> outputs = def.decompose(g_, node);
      const size_t last = g_.nodes.size();
      place(first, node.where);
      reach(first, last);
      for (size_t i = 0; i < outputs.size() && i < dy.size(); ++i)
        if (dy[i] != kNone && is_reached(outputs[i])) add(outputs[i], dy[i]);
      sweep(first, last);
      return;
    }
    const std::vector<ValueId> dx = def.grad(g_, node, dy);
    DLCORE_CHECK(dx.size() == node.inputs.size(), Runtime, "[", node.op, "] the derivative rule gave ", dx.size(),
                 " gradients for ", node.inputs.size(), " inputs");
    place(first, node.where);
    for (size_t i = 0; i < dx.size(); ++i) {
      const ValueId x = node.inputs[i];
      if (dx[i] == kNone || !is_reached(x)) continue;
      DLCORE_CHECK(g_.type(dx[i]) == g_.type(x), Runtime, "[", node.op, "] the derivative rule gave input ", i,
                   " a gradient of type ", to_string(g_.type(dx[i])), " instead of ", to_string(g_.type(x)));
      add(x, dx[i]);
    }
  }

  void place(size_t first, const std::string& where) {
    for (size_t i = first; i < g_.nodes.size(); ++i) g_.nodes[i].where = where;
  }

  Graph& g_;
  std::vector<char> reached_;
  std::vector<std::vector<ValueId>> sums_;
};

ValueId full_like(Graph& g, ValueId v, double value) {
  const TensorType type = g.type(v);
  return emit1(g, "full", {}, {{"value", value}, {"shape", type.shape}, {"dtype", std::string(name_of(type.dtype))}});
}

}  // namespace

std::vector<ValueId> grad(Graph& graph, ValueId output, std::span<const ValueId> wrt, ValueId seed) {
  const auto check = [&](ValueId v, const char* what) {
    DLCORE_CHECK(v >= 0 && static_cast<size_t>(v) < graph.values.size(), Value, "[grad] ", what, " ", v,
                 " is no value of this graph");
  };
  check(output, "the output");
  DLCORE_CHECK(is_float(graph.dtype(output)), Value, "[grad] the output must be of a float type, got ",
               to_string(graph.type(output)));
  for (ValueId v : wrt) {
    check(v, "the variable");
    DLCORE_CHECK(is_float(graph.dtype(v)), Value, "[grad] no gradient with respect to a value of type ",
                 to_string(graph.type(v)), ": it must be of a float type");
  }
  if (seed == kNone) {
    DLCORE_CHECK(numel(graph.shape(output)) == 1, Value, "[grad] the output must be a scalar, got ",
                 to_string(graph.type(output)), "; reduce it (mean or sum) first");
  } else {
    check(seed, "the seed");
    DLCORE_CHECK(graph.type(seed) == graph.type(output), Value, "[grad] the seed is ", to_string(graph.type(seed)),
                 ", the output is ", to_string(graph.type(output)));
  }

  const size_t end = graph.nodes.size();
  Backward backward(graph, wrt);
  backward.add(output, seed == kNone ? full_like(graph, output, 1.0) : seed);
  backward.sweep(0, end);
  std::vector<ValueId> gradients;
  for (ValueId v : wrt) {
    const ValueId sum = backward.sum(v);
    gradients.push_back(sum == kNone ? full_like(graph, v, 0.0) : sum);
  }
  return gradients;
}

}  // namespace dlcore
