#include "base/error.h"
#include "passes/passes.h"

#ifndef NDEBUG
#include "ops/op.h"
#endif

namespace dlcore {

const std::vector<std::string>& default_passes() {
  // Fold runs again after layout, which transposes small constants.
  static const std::vector<std::string> names = {"simplify", "fold",  "layout", "select",   "simplify",  "fold",
                                                 "views",    "pairs", "fuse",   "simplify", "recompute", "epilogue"};
  return names;
}

Graph run_passes(Graph graph, std::span<const std::string> names, const Evaluator& eval) {
  for (const std::string& name : names) {
    if (name == "simplify")
      graph = simplify(graph);
    else if (name == "fold")
      graph = fold(graph, eval);
    else if (name == "layout")
      graph = to_channels_last(graph);
    else if (name == "select")
      graph = select_algorithms(graph);
    else if (name == "select_latency")
      graph = select_algorithms(graph, true);
    else if (name == "absorb")
      graph = absorb_constants(graph);
    else if (name == "views")
      graph = view_heads(graph);
    else if (name == "pairs")
      graph = join_pairs(graph);
    else if (name == "fuse")
      graph = fuse(graph);
    else if (name == "recompute")
      graph = recompute(graph);
    else if (name == "epilogue")
      graph = join_epilogues(graph);
    else if (name == "dce")
      graph = eliminate_dead_code(graph);
    else
      fail(ErrorKind::Value, "unknown pass '", name,
           "'; known: simplify fold layout absorb select views pairs fuse recompute epilogue dce");
#ifndef NDEBUG
    verify(graph);
#endif
  }
  return graph;
}

}  // namespace dlcore
