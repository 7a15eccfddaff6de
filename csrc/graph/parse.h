// The syntax of the text form alone. parse() of graph.h (in ops/verify.cpp, which knows the ops) checks the meaning,
// too.
#pragma once
#include "graph/graph.h"

namespace dlcore {

// lines[i] is the line on which node i stands.
Graph parse_syntax(const std::string& text, const std::map<std::string, Tensor>& constants, std::vector<int>& lines);

}  // namespace dlcore
