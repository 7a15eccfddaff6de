// Passes: Graph → Graph. None changes a bit of the results in float32 (but for the sign of a zero and which NaN), so a
// graph without passes is the oracle of the same graph with them.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace dlcore {

// Computes a node from concrete inputs: (node, inputs, output types) → outputs. The runtime, which knows kernels, gives
// it.
using Evaluator =
    std::function<std::vector<Tensor>(const Node&, const std::vector<Tensor>&, const std::vector<TensorType>&)>;

// Appends the derivative of `output` (a scalar, unless `seed` holds dy of its type) and returns one value for each of
// `wrt`, zeros where the output does not depend on it. Throws Error(Value) naming op and layer where none exists.
std::vector<ValueId> grad(Graph& graph, ValueId output, std::span<const ValueId> wrt, ValueId seed = kNone);

Graph eliminate_dead_code(const Graph& graph);          // "dce": keeps inputs, params and states, used or not
Graph simplify(const Graph& graph);                     // "simplify": algebra, common subexpressions, dead code
Graph fold(const Graph& graph, const Evaluator& eval);  // "fold": computes what depends on constants alone
Graph to_channels_last(const Graph& graph);             // "layout": images run as NHWC between convolutions
// "select", and "select_latency" for programs that see few rows at a time: Winograd where it pays; changes float32
// rounding.
Graph select_algorithms(const Graph& graph, bool latency = false);
// For all graphs from here on: direct convolutions alone, whose rounding error is smaller.
void set_precise(bool precise);
bool precise();
Graph absorb_constants(const Graph& graph);  // "absorb": when freezing, batch norms into weights; rounds anew
Graph view_heads(const Graph& graph);        // "views": attention reads and writes heads where they lie
Graph join_pairs(const Graph& graph);        // "pairs": gelu and its slope at once
Graph fuse(const Graph& graph);              // "fuse": element-wise chains become `fused` tile programs
Graph recompute(const Graph& graph);         // "recompute": cheap element-wise values again rather than stored
Graph join_epilogues(const Graph& graph);    // "epilogue": products take the element-wise work behind them

const std::vector<std::string>& default_passes();
// Runs the named passes in order. Throws Error(Value) for an unknown name.
Graph run_passes(Graph graph, std::span<const std::string> names, const Evaluator& eval);

}  // namespace dlcore
