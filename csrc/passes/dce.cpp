// Drops nodes whose results nobody needs, and constants nobody reads. Inputs, params and states are the graph's face:
// they stay.
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

Graph eliminate_dead_code(const Graph& graph) {
  std::vector<char> live(graph.values.size(), 0);
  const auto mark = [&](ValueId v) { live[static_cast<size_t>(v)] = 1; };
  for (const Output& o : graph.outputs) mark(o.value);
  for (const Update& u : graph.updates) mark(u.value);
  std::vector<char> keep(graph.nodes.size(), 0);
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    for (ValueId v : graph.nodes[i].outputs) keep[i] |= live[static_cast<size_t>(v)];
    if (keep[i])
      for (ValueId v : graph.nodes[i].inputs) mark(v);
  }

  Rewrite rewrite(graph, &live);
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (keep[i]) rewrite.keep(graph.nodes[i]);
  return rewrite.finish();
}

}  // namespace dlcore
