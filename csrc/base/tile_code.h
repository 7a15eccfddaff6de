// The code of a `fused` node: a short program over tiles, `t0=add(x0,x1);t1=maximum(t0,#0x0p+0);out t1` (docs/ops.md).
// Shared by the op's rules and by the kernels, so that there is one reading of it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dlcore {

struct TileOperand {
  enum class Kind : uint8_t { Input, Temp, Literal };
  Kind kind = Kind::Literal;
  int index = 0;    // of the input or of the instruction
  float value = 0;  // of the literal
};

struct TileInstr {
  std::string op;
  std::vector<TileOperand> args;
};

struct TileProgram {
  std::vector<TileInstr> instrs;  // instruction k gives t<k>
  std::vector<int> outputs;       // instructions
};

// How many operands an instruction takes: 1, 2, or 3 (where); 0 for a name that is no element-wise op on f32.
int tile_arity(std::string_view op);

// Throws Error(Value) saying what is wrong and where in the code. Every operand of the result exists: inputs are below
// `inputs`, temporaries below the instruction that reads them.
TileProgram parse_tile_code(std::string_view code, int inputs);
std::string print_tile_code(const TileProgram& program);  // parses back to the same
std::string print_operand(const TileOperand& operand);

}  // namespace dlcore
