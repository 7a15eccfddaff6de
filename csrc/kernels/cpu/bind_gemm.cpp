// Binds matmul to the vectorised kernels.
#include <algorithm>
#include <memory>

#include "base/cpu.h"
#include "base/error.h"
#include "base/tile_code.h"
#include "kernels/chain.h"
#include "kernels/cpu/bind_epilogue.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/prepared.h"

namespace dlcore {

void register_cpu_gemm(Registry& registry);

#if defined(__x86_64__)
namespace {

constexpr int64_t kSmallestReady = 8;  // columns: fewer are as well read where they stand

struct GemmPlan {
  GemmArgs args;
  std::vector<int64_t> a_offset, b_offset;
  bool swapped = false;  // B's memory is the kernel's A
};

// The offset of each product's matrix: leading axes broadcast to those of the output.
std::vector<int64_t> batch_offsets(const Shape& input, const Shape& output) {
  const size_t rank = output.size() - 2, own = input.size() - 2;
  int64_t count = 1, stride = input[own] * input[own + 1];
  std::vector<int64_t> offsets = {0};
  // From the innermost axis outwards: the offsets so far, repeated at each step of the axis.
  for (size_t axis = rank; axis-- > 0;) {
    const int64_t size = output[axis];
    const bool present = axis + own >= rank;
    const int64_t extent = present ? input[axis + own - rank] : 1;
    const int64_t step = extent == 1 ? 0 : stride;
    std::vector<int64_t> next;
    next.reserve(static_cast<size_t>(count * size));
    for (int64_t i = 0; i < size; ++i)
      for (int64_t offset : offsets) next.push_back(offset + i * step);
    offsets = std::move(next);
    count *= size;
    stride *= extent;
  }
  return offsets;
}

BoundKernel bind_float64(std::shared_ptr<GemmPlan> plan, const Gemm64Table& table) {
  BoundKernel bound;
  bound.workspace = table.workspace(plan->args);
  bound.run = [plan, run = table.run](const RunArgs& r) {
    const size_t a = plan->swapped ? 1 : 0;
    run(plan->args, static_cast<const double*>(r.in[a]), static_cast<const double*>(r.in[1 - a]),
        static_cast<double*>(r.out[0]), r.workspace);
  };
  return bound;
}

// By products of tiles or dot products of pairs where the processor has them, else widened, multiplied in float32, and
// rounded.
BoundKernel bind_bfloat16(const KernelSpec& spec, std::shared_ptr<GemmPlan> plan, bool avx512) {
  const GemmBf16Table& table = avx512 ? avx512::gemm_bf16_table : avx2::gemm_bf16_table;
  const size_t first = plan->swapped ? 1 : 0;
  BoundKernel bound;
  const bool by_tiles = avx512 && table.by_tiles.run && has_amx_bf16();
  if (by_tiles || (avx512 && has_avx512_bf16())) {
    const GemmBf16Way& way = by_tiles ? table.by_tiles : table.by_pairs;
    bound.workspace = way.workspace(plan->args);
    bound.run = [plan, first, run = way.run](const RunArgs& r) {
      run(plan->args, static_cast<const uint16_t*>(r.in[first]), static_cast<const uint16_t*>(r.in[1 - first]),
          static_cast<uint16_t*>(r.out[0]), r.workspace);
    };
    return bound;
  }
  const GemmTable& wide = avx512 ? avx512::gemm_table : avx2::gemm_table;
  const int64_t a = numel(spec.inputs[first].shape), b = numel(spec.inputs[1 - first].shape);
  const int64_t c = numel(spec.outputs[0].shape);
  const auto line = [](int64_t floats) { return (floats + 15) / 16 * 16; };
  bound.workspace = static_cast<size_t>(line(a) + line(b) + line(c)) * sizeof(float) + wide.workspace(plan->args);
  bound.run = [=, &table, run = wide.run](const RunArgs& r) {
    GemmArgs call = plan->args;
    float* wide_a = static_cast<float*>(r.workspace);
    float* wide_b = wide_a + line(a);
    call.a = wide_a;
    call.b = wide_b;
    call.c = wide_b + line(b);
    call.workspace = call.c + line(c);
    table.widen(static_cast<const uint16_t*>(r.in[first]), a, wide_a);
    table.widen(static_cast<const uint16_t*>(r.in[1 - first]), b, wide_b);
    run(call);
    table.round(call.c, c, static_cast<uint16_t*>(r.out[0]));
  };
  return bound;
}

// The epilogue of most layers, which the product's own tile applies while it holds the result: a bias along the last
// axis, the first input behind the product's, then perhaps a relu.
struct Bias {
  bool there = false, relu = false;
};

Bias bias_of(const KernelSpec& product, const KernelSpec& tile) {
  const Shape& c = product.outputs[0].shape;
  const TileProgram program = parse_tile_code(tile.attrs.text("code"), static_cast<int>(tile.inputs.size()));
  if (tile.inputs.size() != 2 || c.empty() || c.back() == 1 || tile.inputs[1] != TensorType{DType::F32, {c.back()}})
    return {};
  const auto& steps = program.instrs;
  const auto reads = [&](size_t step, size_t arg, TileOperand::Kind kind, int index) {
    return steps[step].args[arg].kind == kind && steps[step].args[arg].index == index;
  };
  constexpr auto kInput = TileOperand::Kind::Input, kTemp = TileOperand::Kind::Temp;
  const bool adds =
      !steps.empty() && steps[0].op == "add" &&
      ((reads(0, 0, kInput, 0) && reads(0, 1, kInput, 1)) || (reads(0, 0, kInput, 1) && reads(0, 1, kInput, 0)));
  const bool relu = adds && steps.size() == 2 && steps[1].op == "relu" && reads(1, 0, kTemp, 0);
  const std::vector<int> last = {static_cast<int>(steps.size()) - 1};
  return {adds && (steps.size() == 1 || relu) && program.outputs == last, relu};
}

BoundKernel bind_product(const KernelSpec& spec, std::shared_ptr<const TilePlan> epilogue, Bias bias = {}) {
  const Isa isa = current_isa();
  const DType dtype = spec.inputs[0].dtype;
  const bool known = dtype == DType::F32 || dtype == DType::F64 || dtype == DType::BF16;
  if (isa == Isa::Ref || !known || spec.inputs[1].dtype != dtype) return {};
  const Shape &a = spec.inputs[0].shape, &b = spec.inputs[1].shape, &c = spec.outputs[0].shape;
  DLCORE_CHECK(a.size() >= 2 && b.size() >= 2 && c.size() >= std::max(a.size(), b.size()), Value,
               "[matmul] needs matrices, got ", to_string(a), " @ ", to_string(b));
  const bool ta = spec.attrs.integer_or("transpose_a", 0) != 0, tb = spec.attrs.integer_or("transpose_b", 0) != 0;

  auto plan = std::make_shared<GemmPlan>();
  GemmArgs& args = plan->args;
  args.m = c[c.size() - 2];
  args.n = c[c.size() - 1];
  args.k = ta ? a[a.size() - 2] : a[a.size() - 1];
  DLCORE_CHECK(args.k == (tb ? b[b.size() - 1] : b[b.size() - 2]), Value, "[matmul] inner sizes differ: ", to_string(a),
               " @ ", to_string(b));
  args.a_row = ta ? 1 : args.k;
  args.a_col = ta ? args.m : 1;
  args.ldb = tb ? args.k : args.n;
  args.chain = chain_length(args.k);
  args.b_transposed = tb;
  plan->a_offset = batch_offsets(a, c);
  plan->b_offset = batch_offsets(b, c);
  args.batch = static_cast<int64_t>(plan->a_offset.size());
  const auto same = [](const std::vector<int64_t>& v) {
    return std::all_of(v.begin(), v.end(), [](int64_t x) { return x == 0; });
  };
  if (args.batch > 1 && !ta && same(plan->b_offset) && numel(a) == args.batch * args.m * args.k) {
    args.m *= args.batch;  // one B for all: the batch is more rows
    args.batch = 1;
    if (args.k == 0) plan->a_offset = {0};
  }
  if (args.n == 1) {  // a matrix times a vector is a row times the transposed matrix
    std::swap(plan->a_offset, plan->b_offset);
    plan->swapped = true;
    const bool a_transposed = args.a_row == 1 && args.a_col != 1;
    args.n = args.m;
    args.m = 1;
    args.ldb = a_transposed ? args.a_col : args.a_row;
    args.b_transposed = !a_transposed;
    args.a_row = args.k;
    args.a_col = 1;
  }
  args.relu = bias.relu;
  args.a_offset = plan->a_offset.data();
  args.b_offset = plan->b_offset.data();

  if (dtype == DType::BF16) return bind_bfloat16(spec, std::move(plan), isa == Isa::Avx512);
  if (dtype == DType::F64)
    return bind_float64(std::move(plan), isa == Isa::Avx512 ? avx512::gemm64_table : avx2::gemm64_table);
  const GemmTable& table = isa == Isa::Avx512 ? avx512::gemm_table : avx2::gemm_table;
  BoundKernel bound;
  Prepared ready;
  const void* constant = spec.constant(plan->swapped ? 0 : 1);
  if (constant && args.batch == 1 && args.n >= kSmallestReady && args.k > 0) {
    args.b = static_cast<const float*>(constant) + plan->b_offset[0];
    const int64_t panel = table.panel(args);
    const Shape form{static_cast<int64_t>(isa), args.b_transposed, args.k, args.n, panel};
    ready =
        prepare(args.b, "gemm" + to_string(form), static_cast<size_t>((args.n + panel - 1) / panel * panel * args.k),
                [&](float* to) { table.pack(args, to); });
    args.ready = ready.get();
  }
  const size_t own = (table.workspace(args) + 63) / 64 * 64;
  bound.workspace = own + (epilogue ? cpu::EpilogueRun::kWorkspace : 0);
  bound.run = [plan, epilogue, bias, own, ready, run = table.run](const RunArgs& r) {
    GemmArgs call = plan->args;
    call.a = static_cast<const float*>(r.in[plan->swapped ? 1 : 0]);
    call.b = static_cast<const float*>(r.in[plan->swapped ? 0 : 1]);
    call.c = static_cast<float*>(r.out[0]);
    call.workspace = r.workspace;
    if (bias.there) call.bias = static_cast<const float*>(r.in[2]);
    const cpu::EpilogueRun then(epilogue.get(), cpu::tile_kernels(), r, static_cast<char*>(r.workspace) + own);
    call.epilogue = then.get();
    run(call);
  };
  return bound;
}

BoundKernel bind_matmul(const KernelSpec& spec) { return bind_product(spec, nullptr); }

BoundKernel bind_fused(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref) return {};
  const FusedParts parts = take_apart(spec);
  const bool single = parts.product.inputs[0].dtype == DType::F32 && parts.product.inputs[1].dtype == DType::F32;
  if (const Bias bias = bias_of(parts.product, parts.tile); bias.there && single)
    return bind_product(parts.product, nullptr, bias);
  auto epilogue = cpu::plan_fused(parts.tile);
  return epilogue ? bind_product(parts.product, std::move(epilogue)) : BoundKernel{};
}

}  // namespace

void register_cpu_gemm(Registry& registry) {
  registry.add("cpu", 10, "matmul", bind_matmul);
  registry.add("cpu", 10, "matmul_fused", bind_fused);
}
#else
void register_cpu_gemm(Registry&) {}
#endif

}  // namespace dlcore
