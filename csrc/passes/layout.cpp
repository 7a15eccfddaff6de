// Images and volumes run channels-last (NHWC, NDHWC), and signals as images of height 1, between convolutions and
// poolings, as the kernels like them; transposes stay at the edges, where a value meets an op whose order of arithmetic
// is tied to the axes' order. The walk keeps, for each value of the old graph, its form with the old axes (the
// rewrite's map) and, if one was made, its NHWC form.
#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

// Which inputs and outputs of an op are images (bit i: number i).
struct Spatial {
  std::string_view op;
  unsigned inputs, outputs;
};
constexpr Spatial kSpatial[] = {
    {"conv2d", 1, 1},     {"conv2d_backward_data", 1, 1}, {"conv2d_backward_weight", 3, 0},
    {"conv3d", 1, 1},     {"conv3d_backward_data", 1, 1}, {"conv3d_backward_weight", 3, 0},
    {"max_pool2d", 1, 3}, {"max_pool2d_backward", 3, 1},  {"max_pool2d_gather", 3, 1},
    {"avg_pool2d", 1, 1}, {"avg_pool2d_backward", 1, 1},
};
constexpr Spatial kBatchNorm[] = {{"batch_norm", 1, 1}, {"batch_norm_backward", 3, 1}};

template <size_t n>
const Spatial* find(const Spatial (&table)[n], std::string_view op) {
  const auto it = std::find_if(std::begin(table), std::end(table), [&](const Spatial& s) { return s.op == op; });
  return it == std::end(table) ? nullptr : it;
}

const Spatial* spatial(const Node& node) {
  const Spatial* s = find(kSpatial, node.op);
  return s && node.attrs.text("layout").back() != 'c' ? s : nullptr;
}

// Where an axis of NC… stands in N…C.
int64_t moved(int64_t axis, int64_t rank) { return axis == 0 ? 0 : axis == 1 ? rank - 1 : axis - 1; }

// What stands by the axes of NC…, by those of N…C.
template <class List>
List channels_last(const List& nchw) {
  List found = nchw;
  for (size_t i = 0; i < nchw.size(); ++i)
    found[static_cast<size_t>(moved(static_cast<int64_t>(i), static_cast<int64_t>(nchw.size())))] = nchw[i];
  return found;
}

// A signal's (N, C, L) as an image's (N, C, 1, L).
template <class List>
List as_image(List nchw, typename List::value_type height) {
  if (nchw.size() == 3) nchw.insert(nchw.begin() + 2, height);
  return nchw;
}

// The shape in which a value runs.
Shape running(const Shape& nchw) { return channels_last(as_image(nchw, 1)); }

IntList axes(size_t rank) {
  IntList all(rank);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

class Layout {
 public:
  explicit Layout(const Graph& g) : g_(g), r_(g), nhwc_(g.values.size(), kNone), native_(g.values.size(), 0) {}

  Graph run() {
    for (const Node& node : g_.nodes)
      if (!convert(node)) keep(node);
    for (const Output& o : g_.outputs) nchw(o.value);
    for (const Update& u : g_.updates) nchw(u.value);
    return eliminate_dead_code(r_.finish());
  }

 private:
  bool convert(const Node& node) {
    if (const Spatial* s = spatial(node)) {
      Node copy = node;
      copy.attrs.set("layout", std::string(rank(node.inputs[0]) == 5 ? "ndhwc" : "nhwc"));
      emit_images(node, std::move(copy), s->inputs, s->outputs);
      return true;
    }
    const size_t axes = rank(node.outputs[0]);
    if (node.op == "reshape") return reshape(node);
    if (std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return native(v) && rank(v) == axes; }))
      return false;
    if (const Spatial* s = find(kBatchNorm, node.op)) return batch_norm(node, *s);
    if (node.op == "dropout") return dropout(node);
    if (is_pointwise(node.op)) return pointwise(node);
    return move_axes(node);
  }

  // Of the spatial axes alone: a signal is an image of height 1.
  bool reshape(const Node& node) {
    const ValueId x = node.inputs[0], y = node.outputs[0];
    const Shape &from = g_.shape(x), &to = g_.shape(y);
    if (!native(x) || !is_image(y) || from[0] != to[0] || from[1] != to[1]) return false;
    if (running(from) == running(to)) {
      nhwc_[static_cast<size_t>(y)] = nhwc_[static_cast<size_t>(x)];
      native_[static_cast<size_t>(y)] = 1;
      return true;
    }
    Node copy = node;
    copy.attrs.set("shape", running(to));
    emit_images(node, std::move(copy), 1, 1);
    return true;
  }

  bool batch_norm(const Node& node, const Spatial& s) {
    const auto axes = static_cast<int64_t>(rank(node.inputs[0]));
    if (normalize_axis(node.attrs.integer("axis"), axes, node.op.c_str()) != 1) return false;
    Node copy = node;
    copy.attrs.set("axis", axes == 3 ? 3 : axes - 1);
    emit_images(node, std::move(copy), s.inputs, s.outputs);
    return true;
  }

  // The mask stays that of the old axes.
  bool dropout(const Node& node) {
    Node copy = node;
    copy.attrs.set("channels_last", int64_t{1});
    emit_images(node, std::move(copy), 1, 1);
    return true;
  }

  bool pointwise(const Node& node) {
    for (ValueId v : node.outputs)
      if (!is_image(v) || rank(v) != rank(node.outputs[0])) return false;
    emit_images(node, node, ~0u, ~0u);
    return true;
  }

  // Ops that only move elements (max and min do not mind the order, either).
  bool move_axes(const Node& node) {
    if (node.outputs.size() != 1 || !is_image(node.outputs[0])) return false;
    const auto axes = static_cast<int64_t>(rank(node.outputs[0]));
    for (ValueId v : node.inputs)
      if (rank(v) != static_cast<size_t>(axes)) return false;
    Node copy = node;
    const auto move_axis = [&](int64_t axis) {
      const int64_t at = normalize_axis(axis, axes, node.op.c_str());
      return axes == 3 ? moved(at == 2 ? 3 : at, 4) : moved(at, axes);
    };
    if (node.op == "concat") {
      copy.attrs.set("axis", move_axis(node.attrs.integer("axis")));
    } else if (node.op == "slice" || node.op == "pad") {
      for (const auto& [name, value] : node.attrs)
        if (const IntList* list = std::get_if<IntList>(&value))
          copy.attrs.set(name, channels_last(as_image(*list, name == "stop" || name == "step" ? 1 : 0)));
    } else if (node.op == "reverse" || node.op == "max" || node.op == "min") {
      IntList of = node.attrs.ints("axes");
      for (int64_t& axis : of) axis = move_axis(axis);
      std::sort(of.begin(), of.end());
      copy.attrs.set("axes", of);
    } else {
      return false;
    }
    emit_images(node, std::move(copy), ~0u, 1);
    return true;
  }

  void emit_images(const Node& old, Node now, unsigned inputs, unsigned outputs) {
    const auto has = [](unsigned set, size_t i) { return i >= 32 ? set == ~0u : ((set >> i) & 1u) != 0; };
    size_t axes = 0;  // of the images, to which smaller operands broadcast
    for (ValueId v : old.inputs) axes = std::max(axes, rank(v));
    for (size_t i = 0; i < old.inputs.size(); ++i)
      now.inputs[i] = has(inputs, i) ? nhwc(old.inputs[i], axes) : nchw(old.inputs[i]);
    const std::vector<ValueId> made = emit(r_.to, now.op, std::move(now.inputs), std::move(now.attrs), old.where);
    for (size_t i = 0; i < made.size(); ++i) {
      const ValueId v = old.outputs[i];
      if (has(outputs, i)) {
        nhwc_[static_cast<size_t>(v)] = made[i];
        native_[static_cast<size_t>(v)] = 1;
      } else {
        r_.set(v, made[i]);
      }
    }
  }

  void keep(const Node& node) {
    for (ValueId v : node.inputs) nchw(v);
    r_.keep(node);
  }

  size_t rank(ValueId v) const { return g_.shape(v).size(); }
  bool is_image(ValueId v) const { return rank(v) >= 3 && rank(v) <= 5; }
  bool native(ValueId v) const { return native_[static_cast<size_t>(v)] != 0; }

  ValueId nchw(ValueId v) {
    if (r_(v) == kNone) {
      const Shape& shape = g_.shape(v);
      const Shape image = as_image(shape, 1);
      IntList perm = axes(image.size());
      for (int64_t& axis : perm) axis = moved(axis, static_cast<int64_t>(perm.size()));
      const ValueId x = emit1(r_.to, "transpose", {nhwc_[static_cast<size_t>(v)]}, {{"perm", perm}}, where(v));
      r_.set(v, reshaped(x, image, shape, v));
    }
    return r_(v);
  }

  // The form for an image of `count` axes: a smaller operand comes with as many as broadcasting takes.
  ValueId nhwc(ValueId v, size_t count) {
    const Shape& shape = g_.shape(v);
    if (numel(shape) == 1 && shape.size() < count) return nchw(v);
    const bool image = shape.size() == count;
    ValueId& made = image ? nhwc_[static_cast<size_t>(v)] : smaller_.try_emplace({v, count}, kNone).first->second;
    if (made != kNone) return made;
    const Node* producer = g_.producer(v);
    if (image && producer && producer->op == "broadcast_to" && !is_broadcast(producer->inputs[0])) {
      const ValueId small = nhwc(producer->inputs[0], count);
      return made = emit1(r_.to, "broadcast_to", {small}, {{"shape", running(shape)}}, producer->where);
    }
    Shape whole(count - shape.size(), 1);
    whole.insert(whole.end(), shape.begin(), shape.end());
    whole = as_image(whole, 1);
    const ValueId x = reshaped(nchw(v), shape, whole, v);
    return made = emit1(r_.to, "transpose", {x}, {{"perm", channels_last(axes(whole.size()))}}, where(v));
  }

  ValueId reshaped(ValueId x, const Shape& from, const Shape& to, ValueId old) {
    return from == to ? x : emit1(r_.to, "reshape", {x}, {{"shape", to}}, where(old));
  }

  bool is_broadcast(ValueId v) const {
    const Node* producer = g_.producer(v);
    return producer && producer->op == "broadcast_to";
  }

  std::string where(ValueId v) const {
    const Node* producer = g_.producer(v);
    return producer ? producer->where : "";
  }

  const Graph& g_;
  Rewrite r_;
  std::vector<ValueId> nhwc_;
  std::map<std::pair<ValueId, size_t>, ValueId> smaller_;  // operands of fewer axes than the image they meet
  std::vector<char> native_;                               // the op itself gave NHWC: element-wise ops after it follow
};

}  // namespace

Graph to_channels_last(const Graph& graph) {
  // Pooling alone is as fast the other way.
  const bool any = std::any_of(graph.nodes.begin(), graph.nodes.end(),
                               [](const Node& n) { return n.op.starts_with("conv") && spatial(n); });
  return any ? Layout(graph).run() : graph;
}

}  // namespace dlcore
