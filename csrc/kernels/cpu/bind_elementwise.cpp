// Element-wise ops and `fused`: makes a tile plan of shapes and code.
#include <algorithm>
#include <cstring>
#include <memory>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "base/tile_code.h"
#include "kernels/convert.h"
#include "kernels/registry.h"

#if defined(__x86_64__)
#include "kernels/cpu/bind_epilogue.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/map_names.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

const TileTable& tiles() { return current_isa() == Isa::Avx512 ? avx512::tile_table : avx2::tile_table; }
const ElementwiseTable& floats() {
  return current_isa() == Isa::Avx512 ? avx512::elementwise_table : avx2::elementwise_table;
}
const IntegerTable& integers() { return current_isa() == Isa::Avx512 ? avx512::integer_table : avx2::integer_table; }

TileFn find(const TileOp* list, std::string_view name) {
  for (; list->name; ++list)
    if (name == list->name) return list->fn;
  return nullptr;
}

constexpr int64_t kLongRow = 256;      // a last axis from which on tiles stay within it
constexpr int64_t kLargeTile = 16384;  // for one step that needs no arena
constexpr int64_t kSlack = 64;         // bytes between parts of the arena

// A plan and the memory it points into.
struct Program {
  TilePlan plan = {};
  std::vector<TileInput> inputs;
  std::vector<int> output_sizes;
  std::vector<int64_t> temp_arena;
  std::vector<float> literals;
  std::vector<TileStep> steps;  // operands as in TileStep, but see finish()
};

int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64 + kSlack; }

// Strides of the inputs over the output's axes, then axes of size 1 dropped and neighbours merged where all inputs
// allow.
void set_shapes(Program& p, const KernelSpec& spec) {
  const Shape& out = spec.outputs[0].shape;
  const size_t rank = out.size(), count = spec.inputs.size();
  std::vector<std::vector<int64_t>> strides(count, std::vector<int64_t>(rank, 0));
  for (size_t i = 0; i < count; ++i) {
    const Shape& shape = spec.inputs[i].shape;
    const std::vector<int64_t> own = row_major_strides(shape);
    for (size_t d = 0; d < shape.size(); ++d) strides[i][rank - shape.size() + d] = shape[d] == 1 ? 0 : own[d];
  }
  p.inputs.assign(count, TileInput{});
  TilePlan& plan = p.plan;
  for (size_t d = 0; d < rank; ++d) {
    if (out[d] == 1) continue;
    bool merges = plan.rank > 0;
    for (size_t i = 0; i < count && merges; ++i) merges = p.inputs[i].stride[plan.rank - 1] == strides[i][d] * out[d];
    if (!merges) ++plan.rank;
    int64_t& dim = plan.dim[plan.rank - 1];
    dim = merges ? dim * out[d] : out[d];
    for (size_t i = 0; i < count; ++i) p.inputs[i].stride[plan.rank - 1] = strides[i][d];
  }
  if (plan.rank == 0) plan.dim[plan.rank++] = 1;
  plan.total = numel(out);
  plan.by_rows = plan.rank == 1 || plan.dim[plan.rank - 1] >= kLongRow;
  for (size_t i = 0; i < count; ++i) {
    TileInput& input = p.inputs[i];
    input.size = static_cast<int>(size_of(spec.inputs[i].dtype));
    input.full = numel(spec.inputs[i].shape) == plan.total;
    input.one = numel(spec.inputs[i].shape) == 1;
    if (input.one) input.full = false;
    int64_t period = plan.total;
    for (int d = 0; d < plan.rank && input.stride[d] == 0; ++d) period /= std::max<int64_t>(plan.dim[d], 1);
    input.period = period < plan.total && period <= 1024 ? period : 0;
    input.arena = -1;
  }
  for (const TensorType& t : spec.outputs) p.output_sizes.push_back(static_cast<int>(size_of(t.dtype)));
}

// Gives the arena out for one length of tile; false when it does not fit.
bool place(Program& p, int64_t tile, int temps) {
  int64_t used = 0;
  p.temp_arena.clear();
  for (int i = 0; i < temps; ++i) {
    p.temp_arena.push_back(used);
    used += rounded(tile * 4);
  }
  for (TileInput& input : p.inputs) {
    if (p.plan.by_rows || input.full || input.one) continue;
    input.arena = used;
    used += rounded((tile + input.period) * input.size);
  }
  p.plan.tile = tile;
  return used <= kTileArena;
}

// Steps come with operands as inputs, outputs, temporaries and literals in that order. False: too many of them.
bool finish(Program& p, int temps, int64_t cycles_an_element) {
  TilePlan& plan = p.plan;
  plan.inputs = static_cast<int>(p.inputs.size());
  plan.outputs = static_cast<int>(p.output_sizes.size());
  plan.temps = temps;
  plan.literals = static_cast<int>(p.literals.size());
  plan.steps = static_cast<int>(p.steps.size());
  const int first_literal = plan.inputs + plan.outputs + temps;
  if (first_literal + plan.literals > kMaxTileOperands) return false;
  int64_t tile = 1024;
  while (!place(p, tile, temps)) {
    tile /= 2;
    if (tile < 64) return false;
  }
  const auto expanded = [](const TileInput& input) { return input.arena >= 0; };
  if (plan.steps == 1 && temps == 0 && std::none_of(p.inputs.begin(), p.inputs.end(), expanded)) plan.tile = kLargeTile;
  for (TileStep& step : p.steps)
    for (int k = 0; k < 3; ++k) {
      const int at = step.in[k];
      const bool single =
          at >= first_literal ||
          (at < plan.inputs && (p.inputs[static_cast<size_t>(at)].one ||
                                (plan.by_rows && p.inputs[static_cast<size_t>(at)].stride[plan.rank - 1] == 0)));
      if (single) step.single |= 1u << k;
    }
  plan.input = p.inputs.data();
  plan.output_size = p.output_sizes.data();
  plan.temp_arena = p.temp_arena.data();
  plan.literal = p.literals.data();
  plan.step = p.steps.data();
  for (size_t k = 0; k < p.steps.size(); ++k) {
    TileStep& step = p.steps[k];
    const auto reads = [&](const TileStep& s) {
      return s.in[0] == step.out || s.in[1] == step.out || s.in[2] == step.out;
    };
    step.last = step.out >= plan.inputs && step.out < plan.inputs + plan.outputs &&
                std::none_of(p.steps.begin() + static_cast<std::ptrdiff_t>(k) + 1, p.steps.end(), reads);
  }
  plan.cycles = plan.total * cycles_an_element;
  return true;
}

bool all_past_cache(const KernelSpec& spec) {
  int64_t bytes = 0;
  for (const TensorType& t : spec.outputs) bytes += byte_size(t);
  return written_past_cache(bytes);
}

BoundKernel bind_plan(std::shared_ptr<const TilePlan> plan) {
  if (!plan) return {};
  return {[run = tiles().run, plan](const RunArgs& args) { run(*plan, args.in, args.out); }};
}

BoundKernel bind_step(const KernelSpec& spec, TileFn fn, int64_t cycles) {
  if (!fn) return {};
  auto p = std::make_shared<Program>();
  set_shapes(*p, spec);
  TileStep step = {fn, static_cast<int>(spec.inputs.size()), {0, 0, 0}, 0};
  for (size_t i = 0; i < spec.inputs.size(); ++i) step.in[i] = static_cast<int>(i);
  p->steps.push_back(step);
  p->plan.past = all_past_cache(spec);
  if (!finish(*p, 0, cycles)) return {};
  return bind_plan({p, &p->plan});
}

int cast_index(DType d) {
  switch (d) {
    case DType::F32:
      return 0;
    case DType::Bool:
      return 1;
    case DType::U8:
      return 2;
    case DType::I32:
      return 3;
    case DType::I64:
      return 4;
    default:
      return -1;
  }
}

bool is_long(std::string_view op) {
  return op != "add" && op != "sub" && op != "mul" && op != "maximum" && op != "minimum" && op != "neg" && op != "relu";
}

BoundKernel bind_op(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref) return {};
  const DType d = spec.inputs[0].dtype;
  const std::string& op = spec.op;
  if (op == "cast") {
    const int from = cast_index(d), to = cast_index(spec.outputs[0].dtype);
    return from < 0 || to < 0 ? BoundKernel{} : bind_step(spec, integers().cast[from][to], 2);
  }
  if (op == "where") {
    const size_t size = size_of(spec.inputs[1].dtype);
    return bind_step(spec,
                     size == 4   ? floats().where4
                     : size == 8 ? integers().where8
                     : size == 1 ? integers().where1
                                 : nullptr,
                     1);
  }
  const bool test = spec.outputs[0].dtype == DType::Bool;
  const TileOp* list = nullptr;
  if (d == DType::F32) list = test ? floats().f32_tests : floats().f32_numbers;
  if (d == DType::I32) list = test ? integers().i32_tests : integers().i32;
  if (d == DType::I64) list = test ? integers().i64_tests : integers().i64;
  if (d == DType::U8 && test) list = integers().u8_tests;
  if (d == DType::Bool) list = op.starts_with("logical_") ? integers().logic : integers().u8_tests;
  return list ? bind_step(spec, find(list, op), is_long(op) ? 4 : 1) : BoundKernel{};
}

// Which step last reads each temporary and whether any later step reads an input.
class FusedBinder {
 public:
  explicit FusedBinder(const KernelSpec& spec)
      : spec_(spec),
        code_(parse_tile_code(spec.attrs.text("code"), static_cast<int>(spec.inputs.size()))),
        program_(std::make_shared<Program>()) {}

  std::shared_ptr<const TilePlan> plan() {
    DLCORE_CHECK(code_.outputs.size() == spec_.outputs.size(), Value, "[fused] the code has ", code_.outputs.size(),
                 " outputs, the node ", spec_.outputs.size());
    set_shapes(*program_, spec_);
    program_->plan.past = all_past_cache(spec_);
    find_lives();
    for (size_t k = 0; k < code_.instrs.size(); ++k)
      if (!add_step(k)) return {};
    for (size_t j = 0; j < code_.outputs.size(); ++j) {
      const int at = place_[static_cast<size_t>(code_.outputs[j])];
      if (at != output(j)) program_->steps.push_back({find(floats().f32_numbers, "copy"), output(j), {at, at, at}, 0});
    }
    // Literals stand after the temporaries, whose number is known now.
    for (TileStep& step : program_->steps)
      for (int& at : step.in)
        if (at < 0) at = temporary(temps_) + (-1 - at);
    if (!finish(*program_, temps_, cycles_)) return {};
    return {program_, &program_->plan};
  }

 private:
  int output(size_t j) const { return static_cast<int>(spec_.inputs.size() + j); }
  int temporary(int i) const { return static_cast<int>(spec_.inputs.size() + spec_.outputs.size()) + i; }

  void find_lives() {
    const size_t n = code_.instrs.size();
    last_use_.assign(n, -1);
    place_.assign(n, -1);
    for (size_t k = 0; k < n; ++k)
      for (const TileOperand& a : code_.instrs[k].args) {
        if (a.kind == TileOperand::Kind::Temp) last_use_[static_cast<size_t>(a.index)] = static_cast<int>(k);
        if (a.kind == TileOperand::Kind::Input) last_input_ = static_cast<int>(k);
      }
    for (int k : code_.outputs) last_use_[static_cast<size_t>(k)] = static_cast<int>(n);
  }

  // An output's memory may be an input's: it is written when no later step reads an input.
  int place_result(size_t k) {
    if (static_cast<int>(k) >= last_input_)
      for (size_t j = 0; j < code_.outputs.size(); ++j)
        if (code_.outputs[j] == static_cast<int>(k)) return output(j);
    if (free_.empty()) free_.push_back(temps_++);
    const int slot = free_.back();
    free_.pop_back();
    return temporary(slot);
  }

  bool add_step(size_t k) {
    const TileInstr& instr = code_.instrs[k];
    TileStep step = {find(floats().f32_numbers, instr.op), 0, {0, 0, 0}, 0};
    if (!step.fn) return false;
    for (size_t i = 0; i < instr.args.size(); ++i) {
      const TileOperand& a = instr.args[i];
      if (a.kind == TileOperand::Kind::Input) step.in[i] = a.index;
      if (a.kind == TileOperand::Kind::Temp) step.in[i] = place_[static_cast<size_t>(a.index)];
      if (a.kind == TileOperand::Kind::Literal) {
        program_->literals.push_back(a.value);
        step.in[i] = -static_cast<int>(program_->literals.size());
      }
    }
    for (size_t i = instr.args.size(); i < 3; ++i) step.in[i] = step.in[0];
    // The result may take an operand's place: a loop reads each vector before it writes it.
    for (size_t i = 0; i < instr.args.size(); ++i) {
      const TileOperand& a = instr.args[i];
      if (a.kind != TileOperand::Kind::Temp || last_use_[static_cast<size_t>(a.index)] != static_cast<int>(k)) continue;
      const int slot = place_[static_cast<size_t>(a.index)] - temporary(0);
      if (slot >= 0 && std::find(free_.begin(), free_.end(), slot) == free_.end()) free_.push_back(slot);
    }
    step.out = place_[k] = place_result(k);
    if (last_use_[k] < 0 && step.out >= temporary(0)) free_.push_back(step.out - temporary(0));
    cycles_ += is_long(instr.op) ? 3 : 1;
    program_->steps.push_back(step);
    return true;
  }

  const KernelSpec& spec_;
  const TileProgram code_;
  std::shared_ptr<Program> program_;
  std::vector<int> last_use_, place_, free_;
  int last_input_ = -1, temps_ = 0;
  int64_t cycles_ = 0;
};

BoundKernel bind_fused(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref) return {};
  return bind_plan(FusedBinder(spec).plan());
}

BoundKernel bind_gelu_with_slope(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref || spec.inputs[0].dtype != DType::F32) return {};
  return {[run = floats().gelu_with_slope, count = numel(spec.outputs[0].shape),
           large = all_past_cache(spec)](const RunArgs& args) {
    const auto* x = static_cast<const float*>(args.in[0]);
    auto *y = static_cast<float*>(args.out[0]), *slope = static_cast<float*>(args.out[1]);
    const bool past = large && x != y && x != slope;
    parallel_for((count + kLargeTile - 1) / kLargeTile, count * 4, [&](int64_t chunk) {
      const int64_t begin = chunk * kLargeTile;
      run(x + begin, y + begin, slope + begin, std::min(kLargeTile, count - begin), past);
    });
  }};
}

// copy(x) and full(): chunks of bytes.
constexpr int64_t kChunkBytes = 1 << 18;

BoundKernel bind_copy(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref) return {};
  return {[bytes = byte_size(spec.outputs[0])](const RunArgs& args) {
    const auto* from = static_cast<const char*>(args.in[0]);
    auto* to = static_cast<char*>(args.out[0]);
    if (from == to) return;
    parallel_for((bytes + kChunkBytes - 1) / kChunkBytes, bytes / 8, [&](int64_t chunk) {
      const int64_t begin = chunk * kChunkBytes;
      std::memcpy(to + begin, from + begin, static_cast<size_t>(std::min(kChunkBytes, bytes - begin)));
    });
  }};
}

BoundKernel bind_full(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref) return {};
  const double value = spec.attrs.real("value");
  return for_dtype(spec.outputs[0].dtype, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    return {[element = convert<T>(value), count = numel(spec.outputs[0].shape)](const RunArgs& args) {
      auto* to = static_cast<T*>(args.out[0]);
      constexpr int64_t kChunk = kChunkBytes / static_cast<int64_t>(sizeof(T));
      parallel_for((count + kChunk - 1) / kChunk, count / 4, [&](int64_t chunk) {
        std::fill(to + chunk * kChunk, to + std::min(count, (chunk + 1) * kChunk), element);
      });
    }};
  });
}

}  // namespace

const TileTable& cpu::tile_kernels() { return tiles(); }
std::shared_ptr<const TilePlan> cpu::plan_fused(const KernelSpec& spec) { return FusedBinder(spec).plan(); }

cpu::EpilogueRun::EpilogueRun(const TilePlan* plan, const TileTable& table, const RunArgs& args, void* workspace,
                              int own)
    : epilogue_{table.range, plan, in_, args.out, static_cast<const char*>(workspace)} {
  if (!plan) return;
  in_[0] = args.out[0];
  for (int i = 1; i < plan->inputs; ++i) in_[i] = args.in[own - 1 + i];
  if (plan->total > 0) table.expand(*plan, in_, static_cast<char*>(workspace));
}

void register_cpu_elementwise(Registry& r) {
  for (const char* op : kElementwiseNames) r.add("cpu", 10, op, bind_op);
  r.add("cpu", 10, "gelu_with_slope", bind_gelu_with_slope);
  r.add("cpu", 10, "copy", bind_copy);
  r.add("cpu", 10, "stop_gradient", bind_copy);
  r.add("cpu", 10, "full", bind_full);
  r.add("cpu", 10, "fused", bind_fused);
}
#else
void register_cpu_elementwise(Registry&) {}
#endif

}  // namespace dlcore
