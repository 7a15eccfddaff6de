// Ops that move elements without computing: reshape, transpose, broadcast_to, reverse, slice, pad, concat.
#include <numeric>

#include "ops/define.h"

namespace dlcore {

namespace {

using Wide = __int128;  // sizes of sums and products of attributes, before they are known to fit

int64_t narrow(Call& c, Wide size) {
  c.check(size >= 0 && size <= Call::kMax, "the result is too large");
  return static_cast<int64_t>(size);
}

Types infer_reshape(Call& c) {
  Shape to = c.shape_attr("shape");
  c.check(numel(to) == numel(c.shape(0)), "cannot make ", to_string(to), " of ", to_string(c.shape(0)), ": ", numel(to),
          " elements instead of ", numel(c.shape(0)));
  return {{c.dtype(0), std::move(to)}};
}

Ids grad_reshape(Builder& b, const Node& n, const Ids& dy) { return {b.reshape(dy[0], b.shape(n.inputs[0]))}; }

Types infer_transpose(Call& c) {
  const int rank = c.rank(0);
  const IntList perm = c.ints("perm", static_cast<size_t>(rank));
  Shape out(perm.size());
  std::vector<bool> seen(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) {
    const auto axis = static_cast<size_t>(normalize_axis(perm[i], rank, "transpose"));
    c.check(!seen[axis], "perm names an axis twice: ", to_string(perm));
    seen[axis] = true;
    out[i] = c.shape(0)[axis];
  }
  return {{c.dtype(0), std::move(out)}};
}

Ids grad_transpose(Builder& b, const Node& n, const Ids& dy) {
  const IntList& perm = n.attrs.ints("perm");
  IntList inverse(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) {
    const auto axis = normalize_axis(perm[i], static_cast<int>(perm.size()), "transpose");
    inverse[static_cast<size_t>(axis)] = static_cast<int64_t>(i);
  }
  return {b.op("transpose", {dy[0]}, {{"perm", std::move(inverse)}})};
}

Types infer_broadcast_to(Call& c) {
  Shape to = c.shape_attr("shape");
  const Shape& from = c.shape(0);
  bool fits = from.size() <= to.size();
  for (size_t i = 0; fits && i < from.size(); ++i) {
    const int64_t target = to[to.size() - from.size() + i];
    fits = from[i] == target || from[i] == 1;
  }
  c.check(fits, to_string(from), " does not broadcast to ", to_string(to));
  return {{c.dtype(0), std::move(to)}};
}

Ids grad_broadcast_to(Builder& b, const Node& n, const Ids& dy) { return {b.sum_to(dy[0], b.shape(n.inputs[0]))}; }

Types infer_reverse(Call& c) {
  c.axes("axes", c.rank(0));
  return {c.in(0)};
}

Ids grad_reverse(Builder& b, const Node& n, const Ids& dy) { return {b.op("reverse", {dy[0]}, n.attrs)}; }

Types infer_slice(Call& c) {
  const Shape& from = c.shape(0);
  const IntList start = c.ints("start", from.size(), 0), stop = c.ints("stop", from.size(), 0);
  const IntList step = c.ints("step", from.size(), 1);
  Shape out(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    c.check(start[i] <= stop[i] && stop[i] <= from[i], "start ", start[i], " and stop ", stop[i], " of axis ", i,
            " should satisfy 0 <= start <= stop <= ", from[i]);
    const int64_t span = stop[i] - start[i];
    out[i] = span / step[i] + (span % step[i] != 0);
  }
  return {{c.dtype(0), std::move(out)}};
}

// Back to where the elements came from, zeros between: the adjoint of slice is pad, and of pad, slice.
Ids grad_slice(Builder& b, const Node& n, const Ids& dy) {
  const Shape from = b.shape(n.inputs[0]), to = b.shape(n.outputs[0]);
  if (numel(to) == 0) return {b.full_like(n.inputs[0], 0)};
  const IntList &start = n.attrs.ints("start"), &step = n.attrs.ints("step");
  IntList low(from.size()), high(from.size()), interior(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    low[i] = start[i];
    interior[i] = to[i] > 1 ? step[i] - 1 : 0;
    high[i] = from[i] - (start[i] + (to[i] - 1) * (interior[i] + 1) + 1);
  }
  Attrs attrs{{"low", std::move(low)}, {"high", std::move(high)}, {"interior", std::move(interior)}, {"value", 0.0}};
  return {b.op("pad", {dy[0]}, std::move(attrs))};
}

Types infer_pad(Call& c) {
  const Shape& from = c.shape(0);
  const IntList low = c.ints("low", from.size(), 0), high = c.ints("high", from.size(), 0);
  const IntList interior = c.ints("interior", from.size(), 0);
  c.real("value");
  Shape out(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    const Wide gaps = from[i] > 1 ? Wide{from[i] - 1} * interior[i] : Wide{0};
    out[i] = narrow(c, Wide{low[i]} + high[i] + from[i] + gaps);
  }
  return {{c.dtype(0), std::move(out)}};
}

Ids grad_pad(Builder& b, const Node& n, const Ids& dy) {
  const Shape from = b.shape(n.inputs[0]);
  if (numel(from) == 0) return {b.full_like(n.inputs[0], 0)};
  const IntList& interior = n.attrs.ints("interior");
  IntList start = n.attrs.ints("low"), stop(from.size()), step(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    step[i] = from[i] > 1 ? interior[i] + 1 : 1;
    stop[i] = start[i] + (from[i] - 1) * step[i] + 1;
  }
  Attrs attrs{{"start", std::move(start)}, {"stop", std::move(stop)}, {"step", std::move(step)}};
  return {b.op("slice", {dy[0]}, std::move(attrs))};
}

Types infer_concat(Call& c) {
  const int rank = c.rank(0);
  c.check(rank >= 1, "scalars cannot be joined");
  const auto axis = static_cast<size_t>(c.axis("axis", rank));
  Shape out = c.shape(0);
  Wide total = 0;
  for (size_t i = 0; i < c.count(); ++i) {
    c.want_same_dtype(0, i);
    const Shape& shape = c.shape(i);
    bool fits = shape.size() == out.size();
    for (size_t k = 0; fits && k < out.size(); ++k) fits = k == axis || shape[k] == out[k];
    c.check(fits, "shapes should agree on every axis but ", axis, ": ", to_string(c.shape(0)), " and ",
            to_string(shape));
    total += shape[axis];
  }
  out[axis] = narrow(c, total);
  return {{c.dtype(0), std::move(out)}};
}

Ids grad_concat(Builder& b, const Node& n, const Ids& dy) {
  const Shape whole = b.shape(n.outputs[0]);
  const auto axis =
      static_cast<size_t>(normalize_axis(n.attrs.integer("axis"), static_cast<int>(whole.size()), "concat"));
  Ids gradients;
  int64_t from = 0;
  for (ValueId input : n.inputs) {
    IntList start(whole.size(), 0), stop = whole, step(whole.size(), 1);
    start[axis] = from;
    from = stop[axis] = from + b.shape(input)[axis];
    Attrs attrs{{"start", std::move(start)}, {"stop", std::move(stop)}, {"step", std::move(step)}};
    gradients.push_back(b.op("slice", {dy[0]}, std::move(attrs)));
  }
  return gradients;
}

}  // namespace

void register_shape_ops() {
  register_op(define<"reshape", infer_reshape, grad_reshape>(1, kView));
  register_op(define<"transpose", infer_transpose, grad_transpose>(1));
  register_op(define<"broadcast_to", infer_broadcast_to, grad_broadcast_to>(1));
  register_op(define<"reverse", infer_reverse, grad_reverse>(1));
  register_op(define<"slice", infer_slice, grad_slice>(1));
  register_op(define<"pad", infer_pad, grad_pad>(1));
  OpDef concat = define<"concat", infer_concat, grad_concat>(1);
  concat.max_inputs = -1;
  register_op(std::move(concat));
}

}  // namespace dlcore
