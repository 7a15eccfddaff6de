// A product or a norm and the element-wise work that alone reads its result become one node: bias, activation and
// residual are applied while the result is in the cache. Measured, this is worth little (docs/performance.md), and
// nothing behind the gradient of a convolution's input, whose mask is as large as itself: that stays apart.
#include <algorithm>

#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

constexpr size_t kMostExtras = 8;

// Element-wise ops that a tile program knows, when they stand alone.
bool is_single(const Node& n) {
  static constexpr std::string_view kNames[] = {"add",  "sub",     "mul",  "maximum", "minimum",  "relu",
                                                "tanh", "sigmoid", "gelu", "silu",    "gelu_tanh"};
  return std::find(std::begin(kNames), std::end(kNames), n.op) != std::end(kNames);
}

bool is_product(const Node& n) {
  return n.op == "matmul" || n.op == "layer_norm" || n.op == "rms_norm" || n.op == "batch_norm" ||
         n.op == "group_norm" || ((n.op == "conv2d" || n.op == "conv3d") && n.attrs.text("layout").back() == 'c');
}

// Whether an operand is of the result's shape, one number, or repeats along the last axis.
bool fits(const Shape& operand, const Shape& result) {
  const int64_t n = numel(operand);
  return operand == result || n == 1 ||
         (!operand.empty() && !result.empty() && operand.size() <= result.size() && n == operand.back() &&
          n == result.back());
}

class Joiner {
 public:
  explicit Joiner(const Graph& g) : g_(g), uses_(use_counts(g)), product_(g.nodes.size(), kNone) {}

  Graph run() {
    std::vector<char> taken(g_.nodes.size(), 0);
    std::vector<NodeId> behind(g_.nodes.size(), kNone);  // of a taken product
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      const NodeId p = product_for(g_.nodes[i]);
      if (p == kNone || taken[static_cast<size_t>(p)]) continue;
      taken[static_cast<size_t>(p)] = 1;
      product_[i] = p;
      behind[static_cast<size_t>(p)] = static_cast<NodeId>(i);
    }
    // A norm's statistics may be wanted before its result: the two stand where the norm stood.
    Rewrite r(g_);
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      const Node& n = g_.nodes[i];
      if (taken[i] && n.outputs.size() > 1)
        join(r, g_.nodes[static_cast<size_t>(behind[i])], n);
      else if (!taken[i] && product_[i] == kNone)
        r.keep(n);
      else if (!taken[i] && g_.nodes[static_cast<size_t>(product_[i])].outputs.size() == 1)
        join(r, n, g_.nodes[static_cast<size_t>(product_[i])]);
    }
    return r.finish();
  }

 private:
  // The product whose result this element-wise node alone reads; the last of several.
  NodeId product_for(const Node& n) const {
    if ((n.op != "fused" && !is_single(n)) || n.outputs.empty()) return kNone;
    const TensorType& type = g_.type(n.outputs[0]);
    if (type.dtype != DType::F32 || n.inputs.size() > kMostExtras + 1) return kNone;
    NodeId found = kNone, last = kNone;  // the last node that this one reads from
    for (ValueId v : n.inputs) {
      if (g_.dtype(v) != DType::F32 || !fits(g_.shape(v), type.shape)) return kNone;
      const NodeId p = g_.values[static_cast<size_t>(v)].producer;
      last = std::max(last, p);
      if (p <= found || g_.shape(v) != type.shape || !is_product(g_.nodes[static_cast<size_t>(p)])) continue;
      if (g_.nodes[static_cast<size_t>(p)].outputs[0] != v) continue;
      if (uses_[static_cast<size_t>(v)] == static_cast<int>(std::count(n.inputs.begin(), n.inputs.end(), v))) found = p;
    }
    const bool alone = found == kNone || g_.nodes[static_cast<size_t>(found)].outputs.size() == 1;
    return alone || found == last ? found : kNone;
  }

  void join(Rewrite& r, const Node& n, const Node& product) const {
    const ValueId result = product.outputs[0];
    Node both;
    both.op = product.op + "_fused";
    both.where = product.where;
    both.attrs = product.attrs;
    for (ValueId v : product.inputs) both.inputs.push_back(r(v));
    // In the code the result is x0; the other operands follow in their order.
    std::vector<int> name(n.inputs.size(), 0);
    int next = 1;
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      if (n.inputs[i] == result) continue;
      name[i] = next++;
      both.inputs.push_back(r(n.inputs[i]));
    }
    both.attrs.set("code", n.op == "fused" ? renamed(n.attrs.text("code"), name) : single(n.op, name));
    std::vector<ValueId> outputs = n.outputs;
    outputs.insert(outputs.end(), product.outputs.begin() + 1, product.outputs.end());
    const std::vector<ValueId> made = r.to.add_node(std::move(both), types_of(g_, outputs));
    for (size_t i = 0; i < made.size(); ++i) r.set(outputs[i], made[i]);
  }

  static std::string single(const std::string& op, const std::vector<int>& name) {
    std::string code = "t0=" + op + "(";
    for (size_t i = 0; i < name.size(); ++i) code += (i ? ",x" : "x") + std::to_string(name[i]);
    return code + ");out t0";
  }

  // Every operand x<i> becomes x<name[i]>; ops' names are followed by a bracket, so that "max(" is no operand.
  static std::string renamed(const std::string& code, const std::vector<int>& name) {
    std::string out;
    for (size_t i = 0; i < code.size();) {
      const bool operand = code[i] == 'x' && (i == 0 || code[i - 1] == '(' || code[i - 1] == ',') &&
                           i + 1 < code.size() && code[i + 1] >= '0' && code[i + 1] <= '9';
      out += code[i++];
      if (!operand) continue;
      size_t k = 0;
      while (i < code.size() && code[i] >= '0' && code[i] <= '9') k = k * 10 + static_cast<size_t>(code[i++] - '0');
      out += std::to_string(name.at(k));
    }
    return out;
  }

  const Graph& g_;
  std::vector<int> uses_;
  std::vector<NodeId> product_;  // by element-wise node
};

}  // namespace

Graph join_epilogues(const Graph& graph) { return Joiner(graph).run(); }

}  // namespace dlcore
