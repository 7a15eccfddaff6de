// What the nodes of a program cost, for looking at it.
#pragma once
#include <vector>

#include "graph/graph.h"
#include "passes/plan.h"

namespace dlcore {

// Floating-point operations of a product by its definition (a multiply-add counts two); 0 for what moves memory.
int64_t operations(const Graph& graph, const Node& node);

// Bytes of the arena in use while each node of the plan's order runs.
std::vector<int64_t> live_bytes(const Graph& graph, const Plan& plan);

}  // namespace dlcore
