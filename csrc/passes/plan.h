// The last pass: Graph → Plan. It orders the nodes, decides which memory every value lives in, and writes state in
// place.
#pragma once
#include <string>
#include <vector>

#include "graph/graph.h"

namespace dlcore {

struct Place {
  enum Kind : uint8_t { None, Input, State, Const, Arena, Output } kind = None;
  int64_t index = 0;  // which input, leaf (State, Const) or output; the byte offset for Arena
};

struct Copy {
  Place from, to;
  size_t bytes;
};

struct Plan {
  std::vector<NodeId> order;
  std::vector<Place> places;  // by value
  // Run after the nodes, in order: outputs that are not written where they are wanted, states that could not be updated
  // in place.
  std::vector<Copy> copies;
  size_t arena_bytes = 0;  // a multiple of 64; the kernels' workspace comes on top
};

// Throws Error(Value) naming the state when an update cannot be planned.
Plan make_plan(const Graph& graph);

std::string print(const Graph& graph, const Plan& plan);

}  // namespace dlcore
