// A tile program that reads what another one made computes it again, where that takes cheap instructions alone and no
// operand that it does not read anyway. What is left unread is then not stored: the values that a forward pass would
// keep for its gradients, such as x - mean beside x and mean.
#include <algorithm>
#include <map>
#include <optional>

#include "base/tile_code.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace dlcore {

namespace {

using Operand = TileOperand;
using Kind = TileOperand::Kind;

constexpr size_t kMostInstructions = 32;  // of a program, as the fuse pass has it
constexpr size_t kMostAgain = 8;          // instructions computed again for one value

// Done while the next operands are on their way from memory.
bool is_cheap(std::string_view op) {
  static constexpr std::string_view kNames[] = {
      "add", "sub", "mul", "neg", "abs", "maximum", "minimum",     "relu",       "where",      "eq",
      "ne",  "lt",  "le",  "gt",  "ge",  "copy",    "logical_and", "logical_or", "logical_not"};
  return std::find(std::begin(kNames), std::end(kNames), op) != std::end(kNames);
}

// A tile program over values of the graph.
struct Tile {
  TileProgram program;
  std::vector<ValueId> inputs, outputs;
  bool changed = false;
};

// Appends instructions, each once.
class Writer {
 public:
  int add(TileInstr instr) {
    std::string key = instr.op;
    for (const Operand& a : instr.args) key += "," + print_operand(a);
    const auto [it, fresh] = seen_.try_emplace(key, static_cast<int>(program.instrs.size()));
    if (fresh) program.instrs.push_back(std::move(instr));
    return it->second;
  }

  TileProgram program;

 private:
  std::map<std::string, int> seen_;
};

class Recomputer {
 public:
  explicit Recomputer(const Graph& g) : g_(g), tiles_(g.nodes.size()) {}

  Graph run() {
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      tiles_[i] = tile_of(g_.nodes[i]);
      if (tiles_[i])
        while (import_one(*tiles_[i])) {
        }
    }
    return build();
  }

 private:
  static Operand temp(int index) { return {Kind::Temp, index, 0}; }

  std::optional<Tile> tile_of(const Node& n) const {
    const auto f32 = [&](ValueId v) { return g_.dtype(v) == DType::F32; };
    if (n.outputs.empty() || !std::all_of(n.inputs.begin(), n.inputs.end(), f32) ||
        !std::all_of(n.outputs.begin(), n.outputs.end(), f32))
      return std::nullopt;
    Tile tile{{}, n.inputs, n.outputs};
    const int count = static_cast<int>(n.inputs.size());
    if (n.op == "fused") {
      tile.program = parse_tile_code(n.attrs.text("code"), count);
    } else if (is_pointwise(n.op) && tile_arity(n.op) == count) {
      TileInstr instr{n.op, {}};
      for (int i = 0; i < count; ++i) instr.args.push_back({Kind::Input, i, 0});
      tile.program = {{std::move(instr)}, {0}};
    } else {
      return std::nullopt;
    }
    return tile;
  }

  Shape shape_of(const std::vector<ValueId>& inputs) const {
    Shape shape;
    for (ValueId v : inputs) shape = broadcast(shape, g_.shape(v), "recompute");
    return shape;
  }

  // The instructions that output number `o` of a program needs, ascending.
  static std::vector<int> needed_for(const TileProgram& program, std::vector<int> wanted) {
    std::vector<char> need(program.instrs.size(), 0);
    for (int k : wanted) need[static_cast<size_t>(k)] = 1;
    for (size_t k = program.instrs.size(); k-- > 0;)
      if (need[k])
        for (const Operand& a : program.instrs[k].args)
          if (a.kind == Kind::Temp) need[static_cast<size_t>(a.index)] = 1;
    std::vector<int> found;
    for (size_t k = 0; k < need.size(); ++k)
      if (need[k]) found.push_back(static_cast<int>(k));
    return found;
  }

  // Replaces one input of the tile by the instructions that made it. False: there is none to replace.
  bool import_one(Tile& tile) const {
    for (size_t i = 0; i < tile.inputs.size(); ++i) {
      const ValueId v = tile.inputs[i];
      const NodeId p = g_.values[static_cast<size_t>(v)].producer;
      if (p == kNone || !tiles_[static_cast<size_t>(p)]) continue;
      if (import(tile, i, *tiles_[static_cast<size_t>(p)])) return true;
    }
    return false;
  }

  bool import(Tile& tile, size_t i, const Tile& from) const {
    const ValueId v = tile.inputs[i];
    const auto o = static_cast<size_t>(std::find(from.outputs.begin(), from.outputs.end(), v) - from.outputs.begin());
    const int result = from.program.outputs[o];
    const std::vector<int> again = needed_for(from.program, {result});
    if (again.size() > kMostAgain || again.size() + tile.program.instrs.size() > kMostInstructions) return false;
    std::vector<ValueId> rest = tile.inputs;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
    if (rest.empty() || shape_of(rest) != g_.shape(tile.outputs[0])) return false;
    const auto place = [&](ValueId w) {
      return static_cast<int>(std::find(rest.begin(), rest.end(), w) - rest.begin());
    };
    Writer w;
    std::map<int, int> made;
    for (int k : again) {
      TileInstr instr = from.program.instrs[static_cast<size_t>(k)];
      if (!is_cheap(instr.op)) return false;
      for (Operand& a : instr.args) {
        if (a.kind == Kind::Temp) a.index = made.at(a.index);
        if (a.kind != Kind::Input) continue;
        a.index = place(from.inputs[static_cast<size_t>(a.index)]);
        if (a.index == static_cast<int>(rest.size())) return false;
      }
      made[k] = w.add(std::move(instr));
    }
    std::vector<int> moved;
    for (TileInstr instr : tile.program.instrs) {
      for (Operand& a : instr.args) {
        if (a.kind == Kind::Temp)
          a.index = moved[static_cast<size_t>(a.index)];
        else if (a.kind == Kind::Input && tile.inputs[static_cast<size_t>(a.index)] == v)
          a = temp(made.at(result));
        else if (a.kind == Kind::Input)
          a.index = place(tile.inputs[static_cast<size_t>(a.index)]);
      }
      moved.push_back(w.add(std::move(instr)));
    }
    for (int k : tile.program.outputs) w.program.outputs.push_back(moved[static_cast<size_t>(k)]);
    tile.program = std::move(w.program);
    tile.inputs = std::move(rest);
    tile.changed = true;
    return true;
  }

  // Leaves the outputs that are wanted, what they take, and enough inputs for the shape.
  void trim(Tile& tile, const std::vector<char>& wanted) const {
    std::vector<int> results;
    std::vector<ValueId> outputs;
    for (size_t o = 0; o < tile.outputs.size(); ++o)
      if (wanted[static_cast<size_t>(tile.outputs[o])]) {
        results.push_back(tile.program.outputs[o]);
        outputs.push_back(tile.outputs[o]);
      }
    if (outputs.size() == tile.outputs.size()) return;
    const Shape shape = g_.shape(tile.outputs[0]);
    std::vector<char> read(tile.inputs.size(), 0);
    Writer w;
    std::map<int, int> made;
    for (int k : needed_for(tile.program, results)) {
      TileInstr instr = tile.program.instrs[static_cast<size_t>(k)];
      for (Operand& a : instr.args) {
        if (a.kind == Kind::Temp) a.index = made.at(a.index);
        if (a.kind == Kind::Input) read[static_cast<size_t>(a.index)] = 1;
      }
      made[k] = w.add(std::move(instr));
    }
    for (int k : results) w.program.outputs.push_back(made.at(k));
    std::vector<ValueId> inputs;
    std::vector<int> place(tile.inputs.size(), 0);
    for (size_t i = 0; i < tile.inputs.size(); ++i) {
      place[i] = static_cast<int>(inputs.size());
      if (read[i]) inputs.push_back(tile.inputs[i]);
    }
    if (inputs.empty() || shape_of(inputs) != shape) {
      inputs = tile.inputs;
      for (size_t i = 0; i < place.size(); ++i) place[i] = static_cast<int>(i);
    }
    for (TileInstr& instr : w.program.instrs)
      for (Operand& a : instr.args)
        if (a.kind == Kind::Input) a.index = place[static_cast<size_t>(a.index)];
    tile = {std::move(w.program), std::move(inputs), std::move(outputs), true};
  }

  // From the end: what nobody wants any more is left out.
  Graph build() {
    std::vector<char> wanted(g_.values.size(), 0), kept(g_.nodes.size(), 0);
    const auto want = [&](ValueId v) { wanted[static_cast<size_t>(v)] = 1; };
    for (const Output& o : g_.outputs) want(o.value);
    for (const Update& u : g_.updates) want(u.value);
    for (size_t i = g_.nodes.size(); i-- > 0;) {
      for (ValueId v : g_.nodes[i].outputs) kept[i] |= wanted[static_cast<size_t>(v)];
      if (!kept[i]) continue;
      if (tiles_[i]) trim(*tiles_[i], wanted);
      for (ValueId v : tiles_[i] ? tiles_[i]->inputs : g_.nodes[i].inputs) want(v);
    }
    Rewrite r(g_);
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      if (!kept[i]) continue;
      if (!tiles_[i] || !tiles_[i]->changed) {
        r.keep(g_.nodes[i]);
        continue;
      }
      const Tile& tile = *tiles_[i];
      Node fused;
      fused.op = "fused";
      fused.where = g_.nodes[i].where;
      for (ValueId v : tile.inputs) fused.inputs.push_back(r(v));
      fused.attrs.set("code", print_tile_code(tile.program));
      const std::vector<ValueId> made = r.to.add_node(std::move(fused), types_of(g_, tile.outputs));
      for (size_t o = 0; o < made.size(); ++o) r.set(tile.outputs[o], made[o]);
    }
    return r.finish();
  }

  const Graph& g_;
  std::vector<std::optional<Tile>> tiles_;  // by node, as rewritten
};

}  // namespace

Graph recompute(const Graph& graph) { return Recomputer(graph).run(); }

}  // namespace dlcore
