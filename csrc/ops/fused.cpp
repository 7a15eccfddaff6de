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

// A product or a norm and the tile program over its result: what the epilogue pass makes.
constexpr size_t kMostExtras = 8;

Attrs without_code(const Attrs& attrs) {
  Attrs kept;
  for (const auto& [name, value] : attrs)
    if (name != "code") kept.set(name, value);
  return kept;
}

std::string_view product_of(std::string_view op) { return op.substr(0, op.size() - 6); }  // "_fused"
size_t own_inputs(std::string_view op) { return static_cast<size_t>(get_op(product_of(op)).min_inputs); }

template <OpName kName>
Types infer_product(std::span<const TensorType> inputs, const Attrs& attrs) {
  static constexpr OpName name = kName;
  const auto check = [&](bool ok, auto... message) {
    if (!ok) fail(ErrorKind::Value, "[", name.view(), "] ", message...);
  };
  const size_t own = own_inputs(name.view());
  const Types all = infer_types(get_op(product_of(name.view())), inputs.subspan(0, own), without_code(attrs));
  const TensorType made = all[0];
  check(made.dtype == DType::F32, "wants float32, got ", to_string(made));
  for (size_t i = own; i < inputs.size(); ++i) {
    const TensorType& t = inputs[i];
    const int64_t n = numel(t.shape);
    const bool fits = t.shape == made.shape || n == 1 ||
                      (!made.shape.empty() && !t.shape.empty() && t.shape.size() <= made.shape.size() &&
                       n == t.shape.back() && n == made.shape.back());
    check(t.dtype == DType::F32 && fits, "input ", i, " should be one number, a last axis or a whole of ",
          to_string(made), ", got ", to_string(t));
  }
  const TileProgram program = parse_tile_code(attrs.text("code"), static_cast<int>(inputs.size() - own + 1));
  Types types(program.outputs.size(), made);
  types.insert(types.end(), all.begin() + 1, all.end());
  return types;
}

Ids decompose_product(Builder& b, const Node& n) {
  const auto rest = n.inputs.begin() + static_cast<std::ptrdiff_t>(own_inputs(n.op));
  const Ids made = b.ops(product_of(n.op), {n.inputs.begin(), rest}, without_code(n.attrs));
  Ids inputs{made[0]};
  inputs.insert(inputs.end(), rest, n.inputs.end());
  Ids outputs = b.ops("fused", std::move(inputs), {{"code", n.attrs.text("code")}});
  outputs.insert(outputs.end(), made.begin() + 1, made.end());
  return outputs;
}

template <OpName kName>
void register_product(int inputs) {
  static constexpr OpName name = kName;
  OpDef def;
  def.name = name.view();
  def.min_inputs = inputs;
  def.max_inputs = inputs + static_cast<int>(kMostExtras);
  def.infer = infer_product<kName>;
  def.decompose = decompose_as<decompose_product>;
  register_op(std::move(def));
}

}  // namespace

void register_fused_ops() {
  register_product<"matmul_fused">(2);
  register_product<"conv2d_fused">(2);
  register_product<"conv3d_fused">(2);
  register_product<"layer_norm_fused">(3);
  register_product<"rms_norm_fused">(2);
  register_product<"batch_norm_fused">(3);
  register_product<"group_norm_fused">(3);
  OpDef fused = define_composite<"fused", infer_fused, decompose_fused>(1, kElementwise);
  fused.max_inputs = -1;
  register_op(std::move(fused));
}

}  // namespace dlcore
