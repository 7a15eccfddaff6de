// Writing derivatives and decompositions: short names for the ops they are made of. Nothing here knows a rule; each
// method emits at most a few nodes and returns the value. Shapes are returned by copy, since emitting moves the graph.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace dlcore {

using Ids = std::vector<ValueId>;

class Builder {
 public:
  Builder(Graph& graph, std::string where) : g(graph), where_(std::move(where)) {}

  Graph& g;

  Shape shape(ValueId v) const { return g.shape(v); }
  DType dtype(ValueId v) const { return g.dtype(v); }
  int rank(ValueId v) const { return static_cast<int>(g.shape(v).size()); }
  bool is_float(ValueId v) const;  // f32 or f64: has a derivative

  Ids ops(std::string_view op, Ids inputs, Attrs attrs = {});
  ValueId op(std::string_view op, Ids inputs, Attrs attrs = {}) {
    return ops(op, std::move(inputs), std::move(attrs))[0];
  }

  ValueId add(ValueId a, ValueId b) { return op("add", {a, b}); }
  ValueId sub(ValueId a, ValueId b) { return op("sub", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return op("mul", {a, b}); }
  ValueId div(ValueId a, ValueId b) { return op("div", {a, b}); }
  ValueId neg(ValueId a) { return op("neg", {a}); }
  ValueId exp(ValueId a) { return op("exp", {a}); }
  ValueId where(ValueId condition, ValueId a, ValueId b) { return op("where", {condition, a, b}); }

  // A scalar (rank 0), which broadcasts against anything.
  ValueId constant(double value, DType dtype);
  ValueId constant_like(double value, ValueId v) { return constant(value, dtype(v)); }
  // Arithmetic with a number, in v's dtype.
  ValueId add(ValueId v, double number) { return add(v, constant_like(number, v)); }
  ValueId mul(ValueId v, double number) { return mul(v, constant_like(number, v)); }
  ValueId full_like(ValueId v, double value) { return full(value, shape(v), dtype(v)); }
  ValueId full(double value, Shape shape, DType dtype);
  ValueId iota(int64_t size, DType dtype);

  // These return v itself where there is nothing to do.
  ValueId cast(ValueId v, DType dtype);
  ValueId reshape(ValueId v, Shape shape);
  ValueId broadcast_to(ValueId v, Shape shape);
  ValueId sum_to(ValueId v, const Shape& shape);  // adjoint of broadcast_to
  ValueId sum(ValueId v, IntList axes, bool keepdims);
  ValueId sum_last(ValueId v) { return sum(v, {rank(v) - 1}, true); }
  ValueId transpose_last(ValueId v);  // the last two axes
  ValueId matmul(ValueId a, ValueId b, bool transpose_a = false, bool transpose_b = false);

  // kNone stands for a gradient of zero.
  ValueId accumulate(ValueId a, ValueId b);

 private:
  std::string where_;
};

}  // namespace dlcore
