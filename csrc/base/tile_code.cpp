#include "base/tile_code.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/error.h"

namespace dlcore {

namespace {

constexpr auto kUnary = std::to_array<std::string_view>(
    {"sqrt",        "rsqrt", "reciprocal", "exp",   "expm1",        "log",        "log1p",     "sin",
     "cos",         "tanh",  "sigmoid",    "erf",   "gelu",         "gelu_slope", "gelu_tanh", "silu",
     "softplus",    "floor", "ceil",       "round", "neg",          "abs",        "sign",      "relu",
     "logical_not", "isnan", "isfinite",   "copy",  "stop_gradient"});

constexpr auto kBinary =
    std::to_array<std::string_view>({"add", "sub", "mul", "div", "pow", "maximum", "minimum", "remainder", "eq", "ne",
                                     "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"});

class Parser {
 public:
  Parser(std::string_view code, int inputs) : code_(code), inputs_(inputs) {}

  TileProgram parse() {
    TileProgram program;
    while (!take("out ")) {
      const int k = static_cast<int>(program.instrs.size());
      expect("t");
      if (number() != k) wrong(format("instruction ", k, " should be named t", k));
      expect("=");
      program.instrs.push_back(instruction(k));
      expect(";");
    }
    do {
      const TileOperand result = operand(static_cast<int>(program.instrs.size()));
      if (result.kind != TileOperand::Kind::Temp) wrong("an output should be the result of an instruction");
      program.outputs.push_back(result.index);
    } while (take(","));
    if (at_ != code_.size()) wrong("the code should end after its outputs");
    return program;
  }

 private:
  [[noreturn]] void wrong(const std::string& message) const {
    fail(ErrorKind::Value, "tile code, at character ", at_, " (\"", code_.substr(at_, 12), "\"): ", message);
  }

  bool take(std::string_view text) {
    if (!code_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  void expect(std::string_view text) {
    if (!take(text)) wrong(format("expected \"", text, "\""));
  }

  int number() {
    int n = -1;
    const char* begin = code_.data() + at_;
    const auto [end, error] = std::from_chars(begin, code_.data() + code_.size(), n);
    if (error != std::errc() || n < 0) wrong("expected a number");
    at_ += static_cast<size_t>(end - begin);
    return n;
  }

  TileInstr instruction(int k) {
    TileInstr instr;
    const size_t begin = at_;
    while (at_ < code_.size() && code_[at_] != '(') ++at_;
    instr.op = code_.substr(begin, at_ - begin);
    const int arity = tile_arity(instr.op);
    if (arity == 0) {
      at_ = begin;
      wrong("expected the name of an element-wise op");
    }
    expect("(");
    for (int i = 0; i < arity; ++i) {
      if (i > 0) expect(",");
      instr.args.push_back(operand(k));
    }
    expect(")");
    return instr;
  }

  // An operand where `temps` instructions stand before it.
  TileOperand operand(int temps) {
    TileOperand result;
    if (take("x")) {
      result = {TileOperand::Kind::Input, number(), 0};
      if (result.index >= inputs_) wrong(format("there are ", inputs_, " inputs, no x", result.index));
    } else if (take("t")) {
      result = {TileOperand::Kind::Temp, number(), 0};
      if (result.index >= temps) wrong(format("t", result.index, " has no value yet"));
    } else {
      expect("#");
      result.value = literal();
    }
    return result;
  }

  // As printf writes it, by %g or %a; independent of the locale.
  float literal() {
    const bool negative = take("-");
    const auto notation = take("0x") ? std::chars_format::hex : std::chars_format::general;
    double value = 0;
    const char* begin = code_.data() + at_;
    const auto [end, error] = std::from_chars(begin, code_.data() + code_.size(), value, notation);
    if (error != std::errc() || (begin != code_.data() + code_.size() && *begin == '-')) wrong("expected a number");
    at_ += static_cast<size_t>(end - begin);
    const auto rounded = static_cast<float>(value);
    if (std::isinf(rounded) && !std::isinf(value)) wrong("the number does not fit f32");
    return negative ? -rounded : rounded;
  }

  std::string_view code_;
  int inputs_;
  size_t at_ = 0;
};

}  // namespace

int tile_arity(std::string_view op) {
  if (op == "where") return 3;
  if (std::find(kUnary.begin(), kUnary.end(), op) != kUnary.end()) return 1;
  return std::find(kBinary.begin(), kBinary.end(), op) != kBinary.end() ? 2 : 0;
}

TileProgram parse_tile_code(std::string_view code, int inputs) { return Parser(code, inputs).parse(); }

std::string print_operand(const TileOperand& operand) {
  if (operand.kind != TileOperand::Kind::Literal)
    return (operand.kind == TileOperand::Kind::Input ? "x" : "t") + std::to_string(operand.index);
  char text[40];
  std::snprintf(text, sizeof text, "#%a", static_cast<double>(operand.value));
  return text;
}

std::string print_tile_code(const TileProgram& program) {
  std::string code;
  for (size_t k = 0; k < program.instrs.size(); ++k) {
    const TileInstr& instr = program.instrs[k];
    code += "t" + std::to_string(k) + "=" + instr.op;
    for (size_t i = 0; i < instr.args.size(); ++i) code += (i ? "," : "(") + print_operand(instr.args[i]);
    code += ");";
  }
  for (size_t o = 0; o < program.outputs.size(); ++o) code += (o ? ",t" : "out t") + std::to_string(program.outputs[o]);
  return code;
}

}  // namespace dlcore
