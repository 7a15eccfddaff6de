// A graph frozen for any number of rows becomes one for n rows.
#include "base/error.h"
#include "graph/graph.h"

namespace dlcore {

Graph with_batch(const Graph& graph, int64_t n) {
  DLCORE_CHECK(graph.batch != 0, Value, "the graph was made for fixed sizes, not for any number of rows");
  DLCORE_CHECK(n >= 1, Value, "the number of rows must be at least 1, got ", n);
  const int64_t prime = graph.batch;
  const auto substitute = [&](int64_t& size) {
    if (size <= 0 || size % prime != 0) return;
    DLCORE_CHECK(!__builtin_mul_overflow(size / prime, n, &size), Value, "too many rows: ", n);
  };

  Graph out = graph;
  out.batch = 0;
  for (Value& value : out.values) {
    for (int64_t& d : value.type.shape) substitute(d);
    byte_size(value.type);
  }
  for (const Leaf& leaf : out.leaves)
    DLCORE_CHECK(leaf.role != Role::Const || leaf.data.type() == out.type(leaf.value), Value, "constant '", leaf.name,
                 "' depends on the number of rows");
  for (Node& node : out.nodes)
    for (const auto& [name, value] : Attrs(node.attrs)) {
      if (const int64_t* i = std::get_if<int64_t>(&value)) {
        int64_t d = *i;
        substitute(d);
        if (name != "site") node.attrs.set(name, d);  // a site only numbers a random draw
      } else if (const IntList* list = std::get_if<IntList>(&value)) {
        IntList sizes = *list;
        for (int64_t& d : sizes) substitute(d);
        node.attrs.set(name, std::move(sizes));
      }
    }
  return out;
}

}  // namespace dlcore
