// Constant scales and shifts behind a product with constant weights (a batch norm after freezing) go into the weights
// and one bias; a flattened transposition before a product goes into the order of its weights. The function stays, its
// rounding does not: for freezing only, where it is decided once and written into the file.
#include <cmath>
#include <set>

#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

// Reads and writes a tensor's elements as doubles, float32 or float64.
class Elements {
 public:
  explicit Elements(const Tensor& t) : t_(t) {}
  double get(int64_t i) const { return single() ? static_cast<double>(t_.ptr<float>()[i]) : t_.ptr<double>()[i]; }
  void set(int64_t i, double x) const {
    if (single())
      t_.ptr<float>()[i] = static_cast<float>(x);
    else
      t_.ptr<double>()[i] = x;
  }

 private:
  bool single() const { return t_.dtype() == DType::F32; }
  const Tensor& t_;
};

bool is_conv(const Node& n) { return n.op == "conv2d" || n.op == "conv3d"; }

class Absorber {
 public:
  explicit Absorber(const Graph& g) : g_(g), r_(g), users_(g.values.size()), uses_(use_counts(g)) {
    for (const Node& n : g.nodes)
      for (ValueId v : n.inputs) users_[static_cast<size_t>(v)] = &n;
    for (const Leaf& leaf : g.leaves) {
      names_.insert(leaf.name);
      if (leaf.role == Role::Const && (leaf.data.dtype() == DType::F32 || leaf.data.dtype() == DType::F64))
        constants_[leaf.value] = leaf.data;
    }
  }

  Graph run() {
    for (const Node& n : g_.nodes) {
      if (done_.count(&n)) continue;
      if (is_conv(n) || n.op == "matmul")
        product(n);
      else
        r_.keep(n);
    }
    return eliminate_dead_code(r_.finish());
  }

 private:
  const Tensor* constant(ValueId v) const {
    const auto it = constants_.find(v);
    return it == constants_.end() ? nullptr : &it->second;
  }

  ValueId add_constant(Tensor data) {
    std::string name;
    do name = "absorbed." + std::to_string(next_++);
    while (!names_.insert(name).second);
    const TensorType type = data.type();
    return r_.to.add_leaf(Role::Const, std::move(name), type, std::move(data));
  }

  void product(const Node& n) {
    const Tensor* weights = constant(n.inputs[1]);
    Node now = r_.mapped(n);
    if (weights && (is_conv(n) || weights->shape().size() == 2)) {
      Tensor w = n.op == "matmul" ? unflatten(n, now, *weights) : *weights;
      const Node* last = scaled(n, w);
      if (w.buffer() != weights->buffer()) now.inputs[1] = add_constant(w);
      ValueId made = r_.to.add_node(std::move(now), {g_.type(n.outputs[0])})[0];
      if (last != &n && shifted_) made = emit1(r_.to, "add", {made, add_constant(shift_tensor(n))}, {}, last->where);
      r_.set(last->outputs[0], made);
    } else {
      r_.keep(n);
    }
  }

  // The axis of the product's output that its weights' first (or, of a plain matrix, last) axis makes.
  size_t channel_axis(const Node& n) const {
    const size_t rank = g_.shape(n.outputs[0]).size();
    return is_conv(n) && n.attrs.text("layout").back() != 'c' ? 1 : rank - 1;
  }

  // The channel's values where v is a constant that differs by channel alone.
  bool by_channel(ValueId v, const Node& n, std::vector<double>& values) const {
    const Shape& out = g_.shape(n.outputs[0]);
    const size_t axis = channel_axis(n), channels = static_cast<size_t>(out[axis]);
    if (const Node* p = g_.producer(v); p && p->op == "full") {
      values.assign(channels, p->attrs.real("value"));
      return g_.shape(v).size() <= out.size();
    }
    const Tensor* t = constant(v);
    if (!t || t->shape().size() > out.size()) return false;
    const Shape& shape = t->shape();
    for (size_t i = 0; i < shape.size(); ++i)
      if (shape[i] != 1 && i + out.size() - shape.size() != axis) return false;
    const bool one = numel(shape) == 1;
    values.resize(channels);
    for (size_t c = 0; c < channels; ++c) values[c] = Elements(*t).get(one ? 0 : static_cast<int64_t>(c));
    return true;
  }

  // Follows the scales and shifts behind n, each the only reader of the one before; returns the last node of the chain
  // (n: nothing to absorb), having scaled w and set shift_.
  const Node* scaled(const Node& n, Tensor& w) {
    const Shape& out = g_.shape(n.outputs[0]);
    const size_t channels = static_cast<size_t>(out[channel_axis(n)]);
    std::vector<double> scale(channels, 1), shift(channels, 0), values;
    std::set<const Node*> chain;
    const Node* last = &n;
    bool scales = false;
    for (const Node* at = &n;;) {
      const ValueId v = at->outputs[0];
      const Node* user = users_[static_cast<size_t>(v)];
      if (!user || uses_[static_cast<size_t>(v)] != 1) break;
      const bool add = user->op == "add", mul = user->op == "mul", sub = user->op == "sub";
      if ((!add && !mul && !sub) || (sub && user->inputs[0] != v) || g_.type(user->outputs[0]) != g_.type(v)) break;
      const ValueId other = user->inputs[user->inputs[0] == v ? 1 : 0];
      if (g_.dtype(other) != g_.dtype(v) || !by_channel(other, n, values)) break;
      for (size_t c = 0; c < channels; ++c) {
        if (mul) scale[c] *= values[c];
        shift[c] = mul ? shift[c] * values[c] : add ? shift[c] + values[c] : shift[c] - values[c];
      }
      scales |= mul;
      chain.insert(user);
      last = at = user;
    }
    if (!scales) return &n;
    for (size_t c = 0; c < channels; ++c)
      if (!std::isfinite(scale[c]) || !std::isfinite(shift[c])) return &n;
    done_.merge(chain);
    w = w.clone();
    const bool rows = is_conv(n) || n.attrs.integer_or("transpose_b", 0) != 0;
    const int64_t count = numel(w.shape()), across = w.shape()[1], size = count / w.shape()[0];
    for (int64_t i = 0; i < count; ++i) {
      const auto c = static_cast<size_t>(rows ? i / size : i % across);
      Elements(w).set(i, Elements(w).get(i) * scale[c]);
    }
    shift_ = std::move(shift);
    shifted_ = false;
    for (double s : shift_) shifted_ |= s != 0;
    return last;
  }

  Tensor shift_tensor(const Node& n) const {
    Shape shape(g_.shape(n.outputs[0]).size(), 1);
    shape[channel_axis(n)] = static_cast<int64_t>(shift_.size());
    Tensor t({g_.dtype(n.outputs[0]), shape});
    for (size_t c = 0; c < shift_.size(); ++c) Elements(t).set(static_cast<int64_t>(c), shift_[c]);
    return t;
  }

  // matmul(reshape(transpose(x)), W), the reshape joining all axes but the first: x itself flattened, W in x's order.
  Tensor unflatten(const Node& n, Node& now, const Tensor& weights) {
    const Node* reshape = g_.producer(n.inputs[0]);
    const Node* transpose = reshape && reshape->op == "reshape" ? g_.producer(reshape->inputs[0]) : nullptr;
    if (!transpose || transpose->op != "transpose" || n.attrs.integer_or("transpose_a", 0) != 0) return weights;
    const Shape &flat = g_.shape(n.inputs[0]), &from = g_.shape(transpose->inputs[0]);
    IntList perm = transpose->attrs.ints("perm");
    const size_t rank = perm.size();
    for (int64_t& axis : perm) axis = normalize_axis(axis, static_cast<int>(rank), "transpose");
    if (flat.size() != 2 || rank < 3 || perm[0] != 0 || flat[0] != from[0] || flat[1] == 0) return weights;
    const std::vector<int64_t> stride = row_major_strides(from);
    const bool rows = n.attrs.integer_or("transpose_b", 0) != 0;
    const int64_t k = flat[1], others = numel(weights.shape()) / k, step = rows ? 1 : others, next = rows ? k : 1;
    Tensor w(weights.type());
    for (int64_t i = 0; i < k; ++i) {
      int64_t rest = i, to = 0;
      for (size_t d = rank; d-- > 1;) {
        const auto axis = static_cast<size_t>(perm[d]);
        to += rest % from[axis] * stride[axis];
        rest /= from[axis];
      }
      for (int64_t o = 0; o < others; ++o)
        Elements(w).set(to * step + o * next, Elements(weights).get(i * step + o * next));
    }
    now.inputs[0] =
        emit1(r_.to, "reshape", {r_(transpose->inputs[0])}, {{"shape", Shape{flat[0], flat[1]}}}, reshape->where);
    return w;
  }

  const Graph& g_;
  Rewrite r_;
  std::vector<const Node*> users_;  // one reader of each value: all, where the use count is 1
  std::vector<int> uses_;
  std::map<ValueId, Tensor> constants_;
  std::set<std::string> names_;
  std::set<const Node*> done_;
  std::vector<double> shift_;
  bool shifted_ = false;
  int next_ = 0;
};

}  // namespace

Graph absorb_constants(const Graph& graph) { return Absorber(graph).run(); }

}  // namespace dlcore
