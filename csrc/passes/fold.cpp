// Computes ahead what depends on constants alone. Small literals do not grow into large constants.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "base/error.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

constexpr int64_t kMaxElements = 65536;

template <class T>
std::optional<double> uniform_as(const Tensor& t) {
  const T* x = t.ptr<T>();
  const int64_t n = numel(t.shape());
  for (int64_t i = 1; i < n; ++i)
    if (std::memcmp(x + i, x, sizeof(T)) != 0) return std::nullopt;
  const double value = static_cast<double>(x[0]);
  const bool exact = std::isfinite(value) && std::abs(value) < 0x1p53;
  if (!exact && !std::is_same_v<T, float> && !std::is_same_v<T, double>) return std::nullopt;
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

// The value of a tensor whose elements are all the same, when `full` can say it exactly.
std::optional<double> uniform(const Tensor& t) {
  if (numel(t.shape()) == 0) return std::nullopt;
  switch (t.dtype()) {
    case DType::F32:
      return uniform_as<float>(t);
    case DType::F64:
      return uniform_as<double>(t);
    case DType::I32:
      return uniform_as<int32_t>(t);
    case DType::I64:
      return uniform_as<int64_t>(t);
    case DType::Bool:
      return uniform_as<uint8_t>(t);
    default:
      return std::nullopt;
  }
}

class Folder {
 public:
  Folder(const Graph& g, const Evaluator& eval)
      : g_(g),
        eval_(eval),
        known_(g.values.size()),
        source_(g.values.size(), nullptr),
        r_(g),
        full_(g.values.size(), kNone) {
    for (const Leaf& leaf : g.leaves) names_.insert(leaf.name);
  }

  Graph run() {
    for (const Leaf& leaf : g_.leaves)
      if (leaf.role == Role::Const) known_[static_cast<size_t>(leaf.value)] = leaf.data;
    for (const Node& node : g_.nodes) {
      if (evaluate(node)) continue;
      Node copy = node;
      const bool literal = is_pointwise(node.op);
      for (ValueId& v : copy.inputs) v = resolve(v, literal);
      const std::vector<ValueId> outputs = r_.to.add_node(std::move(copy), types_of(g_, node.outputs));
      for (size_t i = 0; i < outputs.size(); ++i) r_.set(node.outputs[i], outputs[i]);
    }
    for (const Output& o : g_.outputs) resolve(o.value, false);
    for (const Update& u : g_.updates) resolve(u.value, false);
    return eliminate_dead_code(r_.finish());
  }

 private:
  // True when the node's outputs are known now.
  bool evaluate(const Node& node) {
    if (depends_on_batch(g_, node)) return false;
    int64_t in = 0, out = 0;
    for (ValueId v : node.outputs) out += numel(g_.shape(v));
    if (node.inputs.empty()) {  // full, iota: computed only when a node that can be folded asks
      if (out <= kMaxElements)
        for (ValueId v : node.outputs) source_[static_cast<size_t>(v)] = &node;
      return false;
    }
    for (ValueId v : node.inputs) {
      const bool data = known_[static_cast<size_t>(v)].defined();
      if (!data && !source_[static_cast<size_t>(v)]) return false;
      if (data) in += numel(g_.shape(v));
    }
    if (out > std::max(kMaxElements, in)) return false;
    try {
      std::vector<Tensor> inputs;
      for (ValueId v : node.inputs) inputs.push_back(data_of(v));
      const std::vector<Tensor> outputs = eval_(node, inputs, types_of(g_, node.outputs));
      for (size_t i = 0; i < outputs.size(); ++i) known_[static_cast<size_t>(node.outputs[i])] = outputs[i];
    } catch (const Error&) {
      return false;  // an index out of range, say: the run will report it where the user sees it
    }
    return true;
  }

  const Tensor& data_of(ValueId v) {
    Tensor& known = known_[static_cast<size_t>(v)];
    if (!known.defined()) {
      const Node& node = *source_[static_cast<size_t>(v)];
      known = eval_(node, {}, types_of(g_, node.outputs))[0];
    }
    return known;
  }

  // The value in the new graph: a node's, a leaf's, or what was folded, as a literal for element-wise ops (they fuse)
  // or as a constant (it needs no run) for the others.
  ValueId resolve(ValueId v, bool literal) {
    const bool folded = r_(v) == kNone || is_constant(v);
    if (literal && folded && full_of(v) != kNone) return full_of(v);
    if (r_(v) != kNone) return r_(v);
    std::string name;
    do name = "folded." + std::to_string(next_++);
    while (!names_.insert(name).second);
    r_.set(v, r_.to.add_leaf(Role::Const, std::move(name), g_.type(v), known_[static_cast<size_t>(v)]));
    return r_(v);
  }

  bool is_constant(ValueId v) const {
    return known_[static_cast<size_t>(v)].defined() && !source_[static_cast<size_t>(v)];
  }

  ValueId full_of(ValueId v) {
    ValueId& made = full_[static_cast<size_t>(v)];
    if (made == kNone) {
      const std::optional<double> value = uniform(known_[static_cast<size_t>(v)]);
      if (!value) return kNone;
      const TensorType& type = g_.type(v);
      made = emit1(r_.to, "full", {},
                   {{"value", *value}, {"shape", type.shape}, {"dtype", std::string(name_of(type.dtype))}});
    }
    return made;
  }

  const Graph& g_;
  const Evaluator& eval_;
  std::vector<Tensor> known_;
  std::vector<const Node*> source_;
  Rewrite r_;
  std::vector<ValueId> full_;
  std::set<std::string> names_;
  int next_ = 0;
};

}  // namespace

Graph fold(const Graph& graph, const Evaluator& eval) { return eval ? Folder(graph, eval).run() : graph; }

}  // namespace dlcore
