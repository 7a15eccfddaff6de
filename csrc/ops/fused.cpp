// The tile program that the fuse pass makes of element-wise chains. It comes apart into its ops again, so that an
// optimised graph can still be differentiated.
#include "base/tile_code.h"
#include "ops/define.h"

namespace dlcore {

namespace {

using Kind = TileOperand::Kind;

Types infer_fused(Call& c) {
  for (size_t i = 0; i < c.count(); ++i) c.want_dtype(i, DType::F32, "every input");
  const TileProgram program = parse_tile_code(c.text("code"), static_cast<int>(c.count()));
  return Types(program.outputs.size(), TensorType{DType::F32, c.broadcast_all()});
}

bool is_test(std::string_view op) {
  return op == "eq" || op == "ne" || op == "lt" || op == "le" || op == "gt" || op == "ge" || op == "isnan" ||
         op == "isfinite";
}

// Truth values are 1.0 and 0.0 inside a tile program, booleans outside.
ValueId expand(Builder& b, const std::string& op, Ids args) {
  const auto truth = [&](ValueId v) { return b.op("ne", {v, b.constant(0, DType::F32)}); };
  if (is_test(op)) return b.cast(b.op(op, std::move(args)), DType::F32);
  if (op.starts_with("logical_")) {
    for (ValueId& v : args) v = truth(v);
    return b.cast(b.op(op, std::move(args)), DType::F32);
  }
  if (op == "where") args[0] = truth(args[0]);
  return b.op(op, std::move(args));
}

Ids decompose_fused(Builder& b, const Node& n) {
  const TileProgram program = parse_tile_code(n.attrs.text("code"), static_cast<int>(n.inputs.size()));
  const Shape shape = b.shape(n.outputs[0]);
  Ids temps, outputs;
  for (const TileInstr& instr : program.instrs) {
    Ids args;
    for (const TileOperand& a : instr.args) {
      const auto i = static_cast<size_t>(a.index);
      args.push_back(a.kind == Kind::Input  ? n.inputs[i]
                     : a.kind == Kind::Temp ? temps[i]
                                            : b.constant(static_cast<double>(a.value), DType::F32));
    }
    temps.push_back(expand(b, instr.op, std::move(args)));
  }
  for (int k : program.outputs) outputs.push_back(b.broadcast_to(temps[static_cast<size_t>(k)], shape));
  return outputs;
}

}  // namespace

void register_fused_ops() {
  OpDef fused = define_composite<"fused", infer_fused, decompose_fused>(1, kElementwise);
  fused.max_inputs = -1;
  register_op(std::move(fused));
}

}  // namespace dlcore
