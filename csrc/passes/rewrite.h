// Helpers the passes share: copying a graph value by value, and reading nodes.
#pragma once
#include <string_view>

#include "graph/graph.h"
#include "ops/op.h"

namespace dlcore {

// A new graph under construction and, for each value of the old one, what stands for it (kNone: nothing yet).
struct Rewrite {
  // Leaves are copied; with `live` (one flag a value), constants that are not live are left out.
  explicit Rewrite(const Graph& from, const std::vector<char>* live = nullptr);
  ValueId operator()(ValueId old) const { return map[static_cast<size_t>(old)]; }
  void set(ValueId old, ValueId now) { map[static_cast<size_t>(old)] = now; }
  Node mapped(const Node& node) const;  // with inputs of the new graph
  void keep(const Node& node);          // appends it as it is
  Graph finish();                       // copies outputs and updates

  const Graph& from;
  Graph to;
  std::vector<ValueId> map;
};

Types types_of(const Graph& g, const std::vector<ValueId>& values);
bool has_flag(std::string_view op, uint32_t flag);
bool is_pointwise(std::string_view op);                   // element-wise and the same wherever the element stands
std::vector<int> use_counts(const Graph& g);              // of each value: inputs, outputs, updates
bool depends_on_batch(const Graph& g, const Node& node);  // a size in it stands for a number of rows

}  // namespace dlcore
