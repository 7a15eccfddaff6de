// Attention that reads q, k and v where they lie in the tensors they are part of and writes its results where they are
// wanted: what the views pass makes of attention between transposes, slices and concatenations. It comes apart into
// those again, so that an optimised graph can still be differentiated.
#include <algorithm>
#include <array>

#include "ops/define.h"

namespace dlcore {

namespace {

enum { kBatch, kHeads, kQueries, kKeys, kWidth };

// Rows of `width` elements at offset + batch·b + head·h + row·t.
struct Rows {
  int64_t offset, count[3], stride[3];
};

Rows rows_attr(Call& c, const char* name, const IntList& sizes, int rows) {
  const IntList view = c.ints(name, 4, 0);
  return {view[0], {sizes[kBatch], sizes[kHeads], sizes[static_cast<size_t>(rows)]}, {view[1], view[2], view[3]}};
}

void want_inside(const Call& c, const Rows& r, int64_t width, const Shape& shape, const char* name) {
  const int64_t n = numel(shape);
  int64_t end = 0;
  bool over = __builtin_add_overflow(r.offset, width, &end);
  for (int i = 0; i < 3; ++i) {
    int64_t way = 0;
    over = over || __builtin_mul_overflow(r.count[i] - 1, r.stride[i], &way) || __builtin_add_overflow(end, way, &end);
  }
  c.check(!over && end <= n, name, " reaches beyond the tensor ", to_string(shape), " it lies in");
}

// The parts (of equal counts and strides) fill the tensor, and none meets another.
void want_filled(const Call& c, const std::vector<Rows>& parts, int64_t width, const Shape& shape) {
  struct Axis {
    int64_t stride, count;
  };
  std::vector<int64_t> offsets;
  for (const Rows& r : parts) offsets.push_back(r.offset);
  std::sort(offsets.begin(), offsets.end());
  const Rows& first = parts[0];
  std::vector<Axis> axes;
  for (int i = 0; i < 3; ++i)
    if (first.count[i] > 1) axes.push_back({first.stride[i], first.count[i]});
  bool whole = offsets[0] == 0;
  if (parts.size() > 1) axes.push_back({offsets[1], static_cast<int64_t>(parts.size())});
  for (size_t i = 0; i < parts.size(); ++i) {
    whole = whole && (i == 0 || offsets[i] - offsets[i - 1] == offsets[1]);
    whole = whole && std::equal(parts[i].count, parts[i].count + 3, first.count) &&
            std::equal(parts[i].stride, parts[i].stride + 3, first.stride);
  }
  std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.stride < b.stride; });
  int64_t size = width;
  for (const Axis& a : axes) {
    whole = whole && a.stride == size && !__builtin_mul_overflow(size, a.count, &size);
    if (!whole) break;
  }
  c.check(whole && size == numel(shape), "the results do not fill the output ", to_string(shape));
}

IntList sizes_attr(Call& c) {
  const IntList sizes = c.ints("sizes", 5, 1);
  numel(sizes);
  c.finite("scale");
  const bool causal = c.flag("causal");
  c.check(!causal || sizes[kQueries] <= sizes[kKeys], "causal attention of ", sizes[kQueries],
          " queries wants as many keys, got ", sizes[kKeys]);
  return sizes;
}

// A mask is the input after `last`.
void check_mask(Call& c, size_t last, const IntList& sizes) {
  const size_t i = last + 1;
  if (c.count() <= i) return;
  c.want_same_dtype(i, last);
  c.want_rank(i, 4, "mask (batch, heads, queries, keys)");
  const Shape& m = c.shape(i);
  bool fits = m[3] == sizes[kKeys];
  for (size_t axis = 0; axis < 3; ++axis) fits = fits && (m[axis] == sizes[axis] || m[axis] == 1);
  c.check(fits, "mask ", to_string(m), " does not fit sizes ", to_string(sizes));
}

void check_operand(Call& c, size_t input, const char* name, const IntList& sizes, int rows) {
  c.want_real(input, name);
  c.want_same_dtype(input, 0);
  want_inside(c, rows_attr(c, name, sizes, rows), sizes[kWidth], c.shape(input), name);
}

Types infer_strided(Call& c) {
  const IntList sizes = sizes_attr(c);
  check_operand(c, 0, "q", sizes, kQueries);
  check_operand(c, 1, "k", sizes, kKeys);
  check_operand(c, 2, "v", sizes, kKeys);
  check_mask(c, 2, sizes);
  const Shape shape = c.shape_attr("shape0");
  want_filled(c, {rows_attr(c, "out", sizes, kQueries)}, sizes[kWidth], shape);
  return {{c.dtype(0), shape}, {c.dtype(0), {sizes[kBatch], sizes[kHeads], sizes[kQueries]}}};
}

constexpr const char *kShapes[] = {"shape0", "shape1", "shape2"}, *kGradients[] = {"dq", "dk", "dv"};

Types infer_strided_backward(Call& c) {
  const IntList sizes = sizes_attr(c);
  check_operand(c, 0, "dout", sizes, kQueries);
  check_operand(c, 1, "q", sizes, kQueries);
  check_operand(c, 2, "k", sizes, kKeys);
  check_operand(c, 3, "v", sizes, kKeys);
  check_operand(c, 4, "out", sizes, kQueries);
  c.want_same_dtype(5, 0);
  c.want_shape(5, {sizes[kBatch], sizes[kHeads], sizes[kQueries]}, "lse");
  check_mask(c, 5, sizes);
  const IntList into = c.ints("into", 3, 0);
  Types types;
  for (size_t i = 0; i < 3; ++i) {
    std::vector<Rows> parts;
    for (size_t g = 0; g < 3; ++g)
      if (into[g] == static_cast<int64_t>(i)) parts.push_back(rows_attr(c, kGradients[g], sizes, g ? kKeys : kQueries));
    if (parts.empty()) continue;
    c.check(types.size() == i, "into ", to_string(into), " leaves out an output");
    const Shape shape = c.shape_attr(kShapes[i]);
    want_filled(c, parts, sizes[kWidth], shape);
    types.push_back({c.dtype(0), shape});
  }
  for (int64_t g : into) c.check(g < static_cast<int64_t>(types.size()), "into ", to_string(into), " names no output");
  return types;
}

// The position of every element of the heads, (batch, heads, rows, width), in the tensor they lie in.
ValueId positions(Builder& b, const Node& n, const char* name, size_t rows) {
  const IntList &view = n.attrs.ints(name), &sizes = n.attrs.ints("sizes");
  const std::array<int64_t, 4> counts = {sizes[kBatch], sizes[kHeads], sizes[rows], sizes[kWidth]};
  const std::array<int64_t, 4> strides = {view[1], view[2], view[3], 1};
  ValueId all = b.constant(static_cast<double>(view[0]), DType::I64);
  for (size_t i = 0; i < 4; ++i) {
    Shape shape(4, 1);
    shape[i] = counts[i];
    const ValueId along = b.mul(b.iota(counts[i], DType::I64), static_cast<double>(strides[i]));
    all = b.add(all, b.reshape(along, shape));
  }
  return all;
}

ValueId heads(Builder& b, const Node& n, size_t input, const char* name, size_t rows) {
  const ValueId x = n.inputs[input];
  return b.op("take", {b.reshape(x, {numel(b.shape(x))}), positions(b, n, name, rows)});
}

ValueId put(Builder& b, const Node& n, ValueId heads, const char* name, size_t rows, size_t output) {
  const Shape shape = b.shape(n.outputs[output]);
  return b.reshape(b.op("scatter_add", {heads, positions(b, n, name, rows)}, {{"size", numel(shape)}}), shape);
}

Attrs plain(const Node& n) {
  Attrs attrs;
  for (const char* name : {"scale", "causal"})
    if (const AttrValue* value = n.attrs.find(name)) attrs.set(name, *value);
  return attrs;
}

Ids decompose_strided(Builder& b, const Node& n) {
  Ids inputs = {heads(b, n, 0, "q", kQueries), heads(b, n, 1, "k", kKeys), heads(b, n, 2, "v", kKeys)};
  if (n.inputs.size() > 3) inputs.push_back(n.inputs[3]);
  const Ids made = b.ops("attention", inputs, plain(n));
  return {put(b, n, made[0], "out", kQueries, 0), made[1]};
}

Ids decompose_strided_backward(Builder& b, const Node& n) {
  Ids inputs = {heads(b, n, 0, "dout", kQueries), heads(b, n, 1, "q", kQueries),   heads(b, n, 2, "k", kKeys),
                heads(b, n, 3, "v", kKeys),       heads(b, n, 4, "out", kQueries), n.inputs[5]};
  if (n.inputs.size() > 6) inputs.push_back(n.inputs[6]);
  const Ids made = b.ops("attention_backward", inputs, plain(n));
  Ids outputs(n.outputs.size(), kNone);
  for (size_t g = 0; g < 3; ++g) {
    const auto at = static_cast<size_t>(n.attrs.ints("into")[g]);
    outputs[at] = b.accumulate(outputs[at], put(b, n, made[g], kGradients[g], g ? kKeys : kQueries, at));
  }
  return outputs;
}

}  // namespace

void register_attention_strided_ops() {
  OpDef forward = define_composite<"attention_strided", infer_strided, decompose_strided>(4);
  OpDef backward =
      define_composite<"attention_strided_backward", infer_strided_backward, decompose_strided_backward>(7);
  forward.min_inputs = 3;
  backward.min_inputs = 6;
  register_op(std::move(forward));
  register_op(std::move(backward));
}

}  // namespace dlcore
