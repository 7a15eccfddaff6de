#include "runtime/work.h"

#include <algorithm>

#include "ops/op.h"

namespace dlcore {

int64_t operations(const Graph& g, const Node& n) {
  const auto in = [&](size_t i) -> const Shape& { return g.shape(n.inputs[i]); };
  const auto out = [&](size_t i) -> const Shape& { return g.shape(n.outputs[i]); };
  if (n.op.starts_with("matmul")) {
    const Shape& a = in(0);
    return 2 * numel(out(0)) * a[a.size() - (n.attrs.integer_or("transpose_a", 0) != 0 ? 2 : 1)];
  }
  if (n.op.starts_with("conv")) {
    // Each weight meets each output position of an image once.
    const bool weight = n.op.ends_with("_weight");
    const Shape &w = weight ? out(0) : in(1), &y = weight ? in(1) : n.op.ends_with("_data") ? in(0) : out(0);
    return w.empty() || w[0] == 0 ? 0 : 2 * numel(y) * (numel(w) / w[0]);
  }
  if (n.op.starts_with("attention")) {
    const bool backward = n.op.ends_with("_backward");
    const Shape &q = in(backward ? 1 : 0), &k = in(backward ? 2 : 1);
    const int64_t products =
        n.op.starts_with("attention_strided") ? numel(n.attrs.ints("sizes")) : q[0] * q[1] * q[2] * k[2] * q[3];
    const int64_t all = (backward ? 10 : 4) * products;
    return n.attrs.integer_or("causal", 0) != 0 ? all / 2 : all;
  }
  if (n.op.starts_with("lstm") || n.op.starts_with("gru") || n.op.starts_with("rnn")) {
    // Of the recurrent product alone, and backwards its two gradients.
    const bool backward = n.op.ends_with("_backward");
    const Shape& sequence = in(0);
    for (ValueId v : n.inputs) {
      const Shape& w = g.shape(v);
      if (w.size() == 2 && w[1] > 0 && w[0] % w[1] == 0 && w[0] / w[1] <= 4 &&
          w[1] * (backward ? 1 : w[0] / w[1]) == sequence[2])
        return (backward ? 4 : 2) * sequence[0] * sequence[1] * numel(w);
    }
  }
  return 0;
}

std::vector<int64_t> live_bytes(const Graph& g, const Plan& plan) {
  // A value's memory is in use from the node that makes it to the last that reads it or a view of it.
  struct Life {
    int64_t bytes = 0;
    size_t first = 0, last = 0;
  };
  std::vector<ValueId> root(g.values.size());
  for (size_t v = 0; v < root.size(); ++v) root[v] = static_cast<ValueId>(v);
  for (const Node& n : g.nodes)
    if (get_op(n.op).flags & kView) root[static_cast<size_t>(n.outputs[0])] = root[static_cast<size_t>(n.inputs[0])];
  std::vector<Life> lives(g.values.size());
  for (size_t i = 0; i < plan.order.size(); ++i) {
    const Node& n = g.nodes[static_cast<size_t>(plan.order[i])];
    for (ValueId v : n.inputs) lives[static_cast<size_t>(root[static_cast<size_t>(v)])].last = i;
    for (ValueId v : n.outputs) {
      if (root[static_cast<size_t>(v)] != v || plan.places[static_cast<size_t>(v)].kind != Place::Arena) continue;
      lives[static_cast<size_t>(v)] = {byte_size(g.type(v)), i, i};
    }
  }
  std::vector<int64_t> change(plan.order.size() + 1, 0);
  for (const Life& life : lives) {
    if (life.bytes == 0) continue;
    change[life.first] += life.bytes;
    change[life.last + 1] -= life.bytes;
  }
  // Two values in one place, one written over the other, count once: memory is what the arena spans at most.
  int64_t now = 0;
  std::vector<int64_t> live;
  for (size_t i = 0; i < plan.order.size(); ++i) {
    now += change[i];
    live.push_back(std::min(now, static_cast<int64_t>(plan.arena_bytes)));
  }
  return live;
}

}  // namespace dlcore
