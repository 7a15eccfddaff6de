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

// A product and the tile program over its result: what the epilogue pass makes.
constexpr size_t kProductInputs = 2, kMostExtras = 8;

Attrs without_code(const Attrs& attrs) {
  Attrs kept;
  for (const auto& [name, value] : attrs)
    if (name != "code") kept.set(name, value);
  return kept;
}

std::string_view product_of(std::string_view op) { return op.substr(0, op.size() - 6); }  // "_fused"

template <OpName kName>
Types infer_product(std::span<const TensorType> inputs, const Attrs& attrs) {
  static constexpr OpName name = kName;
  const auto check = [&](bool ok, auto... message) {
    if (!ok) fail(ErrorKind::Value, "[", name.view(), "] ", message...);
  };
  const TensorType made =
      infer_types(get_op(product_of(name.view())), inputs.subspan(0, kProductInputs), without_code(attrs))[0];
  check(made.dtype == DType::F32, "wants float32, got ", to_string(made));
  for (size_t i = kProductInputs; i < inputs.size(); ++i) {
    const TensorType& t = inputs[i];
    const int64_t n = numel(t.shape);
    const bool fits = t.shape == made.shape || n == 1 ||
                      (!made.shape.empty() && !t.shape.empty() && t.shape.size() <= made.shape.size() &&
                       n == t.shape.back() && n == made.shape.back());
    check(t.dtype == DType::F32 && fits, "input ", i, " should be one number, a last axis or a whole of ",
          to_string(made), ", got ", to_string(t));
  }
  const TileProgram program = parse_tile_code(attrs.text("code"), static_cast<int>(inputs.size() - kProductInputs + 1));
  return Types(program.outputs.size(), made);
}

Ids decompose_product(Builder& b, const Node& n) {
  Ids inputs{b.op(product_of(n.op), {n.inputs[0], n.inputs[1]}, without_code(n.attrs))};
  inputs.insert(inputs.end(), n.inputs.begin() + kProductInputs, n.inputs.end());
  return b.ops("fused", std::move(inputs), {{"code", n.attrs.text("code")}});
}

template <OpName kName>
void register_product() {
  static constexpr OpName name = kName;
  OpDef def;
  def.name = name.view();
  def.min_inputs = kProductInputs;
  def.max_inputs = kProductInputs + kMostExtras;
  def.infer = infer_product<kName>;
  def.decompose = decompose_as<decompose_product>;
  register_op(std::move(def));
}

}  // namespace

void register_fused_ops() {
  register_product<"matmul_fused">();
  register_product<"conv2d_fused">();
  register_product<"conv3d_fused">();
  OpDef fused = define_composite<"fused", infer_fused, decompose_fused>(1, kElementwise);
  fused.max_inputs = -1;
  register_op(std::move(fused));
}

}  // namespace dlcore
