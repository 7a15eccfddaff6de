// Attention works where its operands lie: the transposes, slices and concatenations that split a tensor into heads and
// put heads together again are only moves, and its kernels step over strides. Reads are followed up to the tensor a
// value is a view of, results down to the tensor they are moved into; the moves between become dead.
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

constexpr int kMostMoves = 16;  // followed from one value

// Where the elements of a value stand in another: (i, j, …) at offset + Σ index·stride.
struct View {
  ValueId base;
  Shape shape;
  IntList stride;
  int64_t offset = 0;
};

View whole(const Graph& g, ValueId v) { return {v, g.shape(v), row_major_strides(g.shape(v))}; }

// The same elements under another shape, where strides can say it: each run of axes that the shapes share the elements
// of is contiguous, or one axis.
std::optional<View> reshaped(const View& v, const Shape& to) {
  View r = {v.base, to, IntList(to.size(), 0), v.offset};
  Shape size;
  IntList stride;
  for (size_t i = 0; i < v.shape.size(); ++i)
    if (v.shape[i] != 1) size.push_back(v.shape[i]), stride.push_back(v.stride[i]);
  size_t i = 0, j = 0;
  while (i < size.size()) {
    size_t i_end = i + 1, j_end = j;
    int64_t from = size[i], count = 1;
    while (from != count) {
      if (count < from) {
        if (j_end == to.size()) return std::nullopt;
        count *= to[j_end++];
      } else {
        if (i_end == size.size()) return std::nullopt;
        from *= size[i_end++];
      }
    }
    for (size_t k = i; k + 1 < i_end; ++k)
      if (stride[k] != size[k + 1] * stride[k + 1]) return std::nullopt;
    int64_t step = stride[i_end - 1];
    for (size_t k = j_end; k-- > j; step *= to[k]) r.stride[k] = step;
    i = i_end, j = j_end;
  }
  return r;
}

IntList permutation(const Node& n) {
  IntList perm = n.attrs.ints("perm");
  for (int64_t& axis : perm) axis = normalize_axis(axis, static_cast<int>(perm.size()), "transpose");
  return perm;
}

// What a move makes of a view of its input.
std::optional<View> moved(const Node& n, View v, const Shape& to) {
  if (n.op == "reshape") return reshaped(v, to);
  View r = {v.base, to, IntList(to.size(), 0), v.offset};
  if (n.op == "transpose") {
    const IntList perm = permutation(n);
    for (size_t i = 0; i < perm.size(); ++i) r.stride[i] = v.stride[static_cast<size_t>(perm[i])];
  } else if (n.op == "slice") {
    for (size_t i = 0; i < to.size(); ++i) {
      r.offset += n.attrs.ints("start")[i] * v.stride[i];
      r.stride[i] = n.attrs.ints("step")[i] * v.stride[i];
    }
  } else {  // broadcast_to
    const size_t before = to.size() - v.shape.size();
    for (size_t i = before; i < to.size(); ++i) r.stride[i] = v.shape[i - before] == 1 ? 0 : v.stride[i - before];
  }
  return r;
}

bool is_move(const Node& n) {
  return n.op == "reshape" || n.op == "transpose" || n.op == "slice" || n.op == "broadcast_to";
}

// As the kernels take it: (batch, heads, rows, width) whose rows are contiguous.
std::optional<IntList> rows(const View& v) {
  if (v.shape[3] != 1 && v.stride[3] != 1) return std::nullopt;
  return IntList{v.offset, v.stride[0], v.stride[1], v.stride[2]};
}

class Views {
 public:
  explicit Views(const Graph& g) : g_(g), r_(g), uses_(use_counts(g)), readers_(g.values.size()) {
    for (const Node& n : g.nodes)
      for (ValueId v : n.inputs) readers_[static_cast<size_t>(v)].push_back(&n);
  }

  Graph run() {
    for (const Node& n : g_.nodes)
      if (n.op == "attention" && !empty(n)) place({n.outputs[0]});
    for (const Node& n : g_.nodes)
      if (n.op == "attention_backward" && !empty(n)) place(n.outputs);
    for (const Node& n : g_.nodes)
      if (!skipped_.count(&n) && !convert(n)) r_.keep(n);
    return eliminate_dead_code(r_.finish());
  }

 private:
  // Where a result ends up instead of in a value of its own.
  struct Place {
    ValueId value;
    IntList rows;
  };

  bool empty(const Node& n) const {
    return std::any_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return numel(g_.shape(v)) == 0; });
  }

  // The one node that moves v on, or nullptr. The backward op reads a forward result wherever it stands.
  const Node* mover(ValueId v) const {
    const Node* found = nullptr;
    int others = uses_[static_cast<size_t>(v)];
    for (const Node* n : readers_[static_cast<size_t>(v)]) {
      if (n->op == "attention_backward" && std::count(n->inputs.begin(), n->inputs.end(), v) == 1 && n->inputs[4] == v)
        --others;
      else
        found = n;
    }
    const bool alone = others == 1 && found && found->outputs.size() == 1;
    return alone && (found->op == "reshape" || found->op == "transpose" || found->op == "concat") ? found : nullptr;
  }

  // The moves on from v, up to a concatenation.
  std::vector<const Node*> path(ValueId v) const {
    std::vector<const Node*> found;
    for (const Node* n = mover(v); n && n->op != "concat" && found.size() < kMostMoves; n = mover(n->outputs[0]))
      found.push_back(n);
    return found;
  }

  // Finds where the results of n go, those together that meet in one concatenation.
  void place(const std::vector<ValueId>& results) {
    std::map<const Node*, std::vector<ValueId>> meeting;
    for (ValueId v : results) {
      const auto steps = path(v);
      const Node* next = mover(steps.empty() ? v : steps.back()->outputs[0]);
      const bool joined = next && next->op == "concat" && next->inputs.size() <= results.size();
      if (joined)
        meeting[next].push_back(v);
      else
        settle({v}, nullptr);
    }
    for (const auto& [concat, members] : meeting) {
      if (members.size() == concat->inputs.size() && settle(members, concat)) continue;
      for (ValueId v : members) settle({v}, nullptr);
    }
  }

  // Puts results where their path ends, all of a concatenation in one value.
  bool settle(const std::vector<ValueId>& results, const Node* concat) {
    std::vector<const Node*> after = path(concat ? concat->outputs[0] : results[0]);
    while (!after.empty() && after.back()->op == "reshape") after.pop_back();  // costs nothing
    if (!concat && after.empty()) return false;
    const ValueId end = after.empty() ? concat->outputs[0] : after.back()->outputs[0];
    std::optional<View> v = whole(g_, end);
    v = back(after, *v);
    if (!v) return false;
    std::map<ValueId, Place> found;
    std::vector<const Node*> dead = after;
    if (!concat) {
      const auto r = rows(*v);
      if (!r) return false;
      found[results[0]] = {end, *r};
    } else {
      dead.push_back(concat);
      const auto axis = static_cast<size_t>(
          normalize_axis(concat->attrs.integer("axis"), static_cast<int>(v->shape.size()), "concat"));
      std::map<ValueId, View> parts;  // by the value that is concatenated
      View part = *v;
      for (ValueId input : concat->inputs) {
        part.shape = g_.shape(input);
        parts[input] = part;
        part.offset += part.shape[axis] * part.stride[axis];
      }
      for (ValueId result : results) {
        const auto before = path(result);
        const auto at = parts.find(before.empty() ? result : before.back()->outputs[0]);
        if (at == parts.end()) return false;
        const std::optional<View> mine = back(before, at->second);
        const auto r = mine ? rows(*mine) : std::nullopt;
        if (!r) return false;
        found[result] = {end, *r};
        dead.insert(dead.end(), before.begin(), before.end());
        parts.erase(at);
      }
      if (!alike(results)) return false;
    }
    for (const auto& [value, place] : found) places_[value] = place;
    skipped_.insert(dead.begin(), dead.end());
    ends_.insert(end);
    return true;
  }

  // A concatenation of heads of other sizes is not one run of equal parts.
  bool alike(const std::vector<ValueId>& results) const {
    return std::all_of(results.begin(), results.end(), [&](ValueId v) { return g_.shape(v) == g_.shape(results[0]); });
  }

  // A view of the last move's result as a view of the first one's input.
  std::optional<View> back(const std::vector<const Node*>& moves, View v) const {
    for (size_t i = moves.size(); i-- > 0;) {
      const Node& n = *moves[i];
      const Shape& from = g_.shape(n.inputs[0]);
      if (n.op == "reshape") {
        const std::optional<View> r = reshaped(v, from);
        if (!r) return std::nullopt;
        v = *r;
      } else {
        const IntList perm = permutation(n);
        View r = {v.base, from, IntList(from.size(), 0), v.offset};
        for (size_t k = 0; k < perm.size(); ++k) r.stride[static_cast<size_t>(perm[k])] = v.stride[k];
        v = r;
      }
    }
    return v;
  }

  // What v is a view of.
  View source(ValueId v, int moves = 0) const {
    const Node* n = g_.producer(v);
    if (moves == kMostMoves || !n || !is_move(*n) || ends_.count(v)) return whole(g_, v);
    const std::optional<View> found = moved(*n, source(n->inputs[0], moves + 1), g_.shape(v));
    return found ? *found : whole(g_, v);
  }

  // Reads v in what it is a view of; says whether that spares a move.
  bool read(ValueId v, const char* name, Node& now) const {
    const auto placed = places_.find(v);
    if (placed != places_.end()) {
      now.inputs.push_back(r_(placed->second.value));
      now.attrs.set(name, placed->second.rows);
      return true;
    }
    const View plain = whole(g_, v);
    View found = source(v);
    auto r = rows(found);
    if (!r) found = plain, r = rows(plain);
    now.inputs.push_back(r_(found.base));
    now.attrs.set(name, *r);
    return found.offset != 0 || found.stride != plain.stride;
  }

  bool convert(const Node& n) {
    const bool backward = n.op == "attention_backward";
    if ((n.op != "attention" && !backward) || empty(n)) return false;
    Node now;
    now.op = backward ? "attention_strided_backward" : "attention_strided";
    now.where = n.where;
    now.attrs = n.attrs;
    const size_t first = backward ? 1 : 0;
    const Shape &q = g_.shape(n.inputs[first]), &k = g_.shape(n.inputs[first + 1]);
    now.attrs.set("sizes", IntList{q[0], q[1], q[2], k[2], q[3]});
    bool better = false;
    if (backward) better |= read(n.inputs[0], "dout", now);
    better |= read(n.inputs[first], "q", now);
    better |= read(n.inputs[first + 1], "k", now);
    better |= read(n.inputs[first + 2], "v", now);
    if (backward) {
      better |= read(n.inputs[4], "out", now);
      now.inputs.push_back(r_(n.inputs[5]));
    }
    if (n.inputs.size() > first + 3 + (backward ? 2 : 0)) now.inputs.push_back(r_(n.inputs.back()));

    // Results: each in its place, or in a value of its own.
    static constexpr std::array kGradients = {"dq", "dk", "dv"};
    static constexpr std::array kShapes = {"shape0", "shape1", "shape2"};
    std::vector<ValueId> ends;
    IntList into;
    for (size_t i = 0; i < (backward ? 3u : 1u); ++i) {
      const auto placed = places_.find(n.outputs[i]);
      better |= placed != places_.end();
      const Place place =
          placed != places_.end() ? placed->second : Place{n.outputs[i], *rows(whole(g_, n.outputs[i]))};
      now.attrs.set(backward ? kGradients[i] : "out", place.rows);
      auto at = std::find(ends.begin(), ends.end(), place.value);
      if (at == ends.end()) {
        now.attrs.set(kShapes[ends.size()], g_.shape(place.value));
        at = ends.insert(ends.end(), place.value);
      }
      into.push_back(at - ends.begin());
    }
    if (!better) return false;
    if (backward) now.attrs.set("into", into);
    Types types = types_of(g_, ends);
    if (!backward) types.push_back(g_.type(n.outputs[1]));
    const std::vector<ValueId> made = r_.to.add_node(std::move(now), std::move(types));
    for (size_t i = 0; i < ends.size(); ++i) r_.set(ends[i], made[i]);
    if (!backward) r_.set(n.outputs[1], made[1]);
    return true;
  }

  const Graph& g_;
  Rewrite r_;
  std::vector<int> uses_;
  std::vector<std::vector<const Node*>> readers_;
  std::map<ValueId, Place> places_;  // of results
  std::set<ValueId> ends_;           // values that attention makes itself
  std::set<const Node*> skipped_;
};

}  // namespace

Graph view_heads(const Graph& graph) {
  const bool any =
      std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) { return n.op.starts_with("attention"); });
  return any ? Views(graph).run() : graph;
}

}  // namespace dlcore
