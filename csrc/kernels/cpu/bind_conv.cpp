// Binds the convolutions to the vectorised kernels. They work channels last; channels-first images are transposed
// through the workspace, so that a graph without the layout pass runs at a decent speed too.
#include <memory>
#include <vector>

#include "base/cpu.h"
#include "kernels/cpu/bind_epilogue.h"
#include "kernels/prepared.h"
#include "kernels/winograd_spec.h"

namespace dlcore {

void register_cpu_conv(Registry& registry);

#if defined(__x86_64__)
namespace {

struct OwnedMap {
  std::vector<std::vector<ConvTap>> taps;
  std::vector<ConvPhase> phases;
  ConvMap view() const { return {phases.data(), static_cast<int64_t>(phases.size())}; }
};

void add_phase(OwnedMap& map, ConvPhase phase, std::vector<ConvTap> taps) {
  map.taps.push_back(std::move(taps));
  phase.taps = map.taps.back().data();
  phase.tap_count = static_cast<int64_t>(map.taps.back().size());
  map.phases.push_back(phase);
}

OwnedMap forward_map(const ConvShape& s) {
  OwnedMap map;
  for (int64_t plane = 0; plane < s.od && s.n * s.groups * s.co > 0; ++plane) {
    std::vector<ConvTap> taps;
    for (int64_t kd = 0; kd < s.kd; ++kd) {
      const int64_t from = plane * s.stride_d + kd * s.dilation_d - s.pad_front;
      if (from < 0 || from >= s.d) continue;
      for (int64_t kh = 0; kh < s.kh; ++kh)
        for (int64_t kw = 0; kw < s.kw; ++kw)
          taps.push_back(
              {from, kh * s.dilation_h - s.pad_top, kw * s.dilation_w - s.pad_left, (kd * s.kh + kh) * s.kw + kw});
    }
    add_phase(map, {plane, 0, 0, 1, 1, s.oh, s.ow, s.stride_h, s.stride_w, nullptr, 0}, std::move(taps));
  }
  return map;
}

// Input position p is reached from output (p + pad - k·dilation) / stride where that divides: which taps these are
// depends on p modulo stride only.
OwnedMap backward_map(const ConvShape& s) {
  OwnedMap map;
  for (int64_t plane = 0; plane < s.d && s.n * s.groups * s.ci > 0; ++plane) {
    for (int64_t h = 0; h < std::min(s.stride_h, s.h); ++h) {
      for (int64_t w = 0; w < std::min(s.stride_w, s.w); ++w) {
        std::vector<ConvTap> taps;
        for (int64_t index = 0; index < s.taps(); ++index) {
          const int64_t from_d = plane + s.pad_front - index / (s.kh * s.kw) * s.dilation_d,
                        from_h = h + s.pad_top - index / s.kw % s.kh * s.dilation_h,
                        from_w = w + s.pad_left - index % s.kw * s.dilation_w;
          if (from_d % s.stride_d != 0 || from_h % s.stride_h != 0 || from_w % s.stride_w != 0) continue;
          const int64_t from = from_d / s.stride_d;
          if (from >= 0 && from < s.od) taps.push_back({from, from_h / s.stride_h, from_w / s.stride_w, index});
        }
        const int64_t rows = (s.h - h + s.stride_h - 1) / s.stride_h, cols = (s.w - w + s.stride_w - 1) / s.stride_w;
        add_phase(map, {plane, h, w, s.stride_h, s.stride_w, rows, cols, 1, 1, nullptr, 0}, std::move(taps));
      }
    }
  }
  return map;
}

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// The plan shared by the three directions: which images need another layout, and where they stand in the workspace.
struct ConvCall {
  ConvShape shape;
  OwnedMap map;
  const ConvTable* table;
  bool move_x, move_y;
  size_t x_at, y_at;  // byte offsets in the workspace

  float* x_copy(void* workspace) const { return reinterpret_cast<float*>(static_cast<char*>(workspace) + x_at); }
  float* y_copy(void* workspace) const { return reinterpret_cast<float*>(static_cast<char*>(workspace) + y_at); }
  const float* x_in(const float* x, void* workspace) const {
    if (move_x) table->transpose_images(x, x_copy(workspace), shape.n, shape.groups * shape.ci, shape.in_size());
    return move_x ? x_copy(workspace) : x;
  }
  const float* y_in(const float* y, void* workspace) const {
    if (move_y) table->transpose_images(y, y_copy(workspace), shape.n, shape.groups * shape.co, shape.out_size());
    return move_y ? y_copy(workspace) : y;
  }
};

struct Planned {
  std::shared_ptr<ConvCall> call;
  size_t workspace;
};

Planned plan_call(const ConvSpec& spec, const ConvTable& table, size_t own) {
  auto call = std::make_shared<ConvCall>();
  const ConvShape& s = spec.shape;
  call->shape = s;
  call->table = &table;
  call->move_x = spec.nchw && s.groups * s.ci > 1 && s.in_size() > 1;
  call->move_y = spec.nchw && s.groups * s.co > 1 && s.out_size() > 1;
  call->x_at = aligned(own);
  call->y_at = call->x_at +
               (call->move_x ? aligned(sizeof(float) * static_cast<size_t>(s.n * s.in_size() * s.groups * s.ci)) : 0);
  const size_t end =
      call->y_at +
      (call->move_y ? aligned(sizeof(float) * static_cast<size_t>(s.n * s.out_size() * s.groups * s.co)) : 0);
  return {call, end};
}

const ConvTable* table_for(const KernelSpec& spec) {
  for (const TensorType& type : spec.inputs)
    if (type.dtype != DType::F32) return nullptr;
  switch (current_isa()) {
    case Isa::Avx512:
      return &avx512::conv_table;
    case Isa::Avx2:
      return &avx2::conv_table;
    default:
      return nullptr;
  }
}

// What packed weights depend on.
std::string form(const char* what, const ConvShape& s) {
  return what + to_string(Shape{static_cast<int64_t>(current_isa()), s.groups, s.co, s.ci, s.taps()});
}

BoundKernel bind_forward(const KernelSpec& spec, std::shared_ptr<const TilePlan> epilogue) {
  const ConvTable* table = table_for(spec);
  if (!table) return {};
  const ConvSpec conv = read_conv(spec, spec.inputs[0].shape, spec.inputs[1].shape, spec.outputs[0].shape);
  if (wants_winograd(spec)) return cpu::bind_winograd(spec, conv, std::move(epilogue));
  const size_t floats = table->packed_floats(conv.shape), rest = aligned(table->workspace_forward(conv.shape));
  Prepared packed;
  if (const void* w = spec.constant(1))
    packed = prepare(w, form("conv", conv.shape), floats,
                     [&](float* to) { table->pack(conv.shape, static_cast<const float*>(w), to); });
  auto [call, bytes] = plan_call(conv, *table, rest + (packed ? 0 : aligned(floats * sizeof(float))));
  call->map = forward_map(conv.shape);
  BoundKernel bound;
  const size_t own = aligned(bytes);
  bound.workspace = own + (epilogue ? cpu::EpilogueRun::kWorkspace : 0);
  bound.run = [c = call, packed, rest, epilogue, own](const RunArgs& r) {
    const cpu::EpilogueRun then(epilogue.get(), cpu::tile_kernels(), r, static_cast<char*>(r.workspace) + own);
    const float* weights = packed.get();
    if (!packed) {
      float* own = reinterpret_cast<float*>(static_cast<char*>(r.workspace) + rest);
      c->table->pack(c->shape, static_cast<const float*>(r.in[1]), own);
      weights = own;
    }
    const float* x = c->x_in(static_cast<const float*>(r.in[0]), r.workspace);
    float* y = static_cast<float*>(r.out[0]);
    float* to = c->move_y ? c->y_copy(r.workspace) : y;
    c->table->forward(c->shape, c->map.view(), x, weights, to, r.workspace, then.get());
    const ConvShape& s = c->shape;
    if (c->move_y) c->table->transpose_images(to, y, s.n, s.out_size(), s.groups * s.co);
  };
  return bound;
}

BoundKernel bind_data(const KernelSpec& spec) {
  const ConvTable* table = table_for(spec);
  if (!table) return {};
  const ConvSpec conv = read_conv(spec, spec.outputs[0].shape, spec.inputs[1].shape, spec.inputs[0].shape);
  if (wants_winograd(spec)) return cpu::bind_winograd(spec, conv, nullptr);
  auto [call, bytes] = plan_call(conv, *table, table->workspace_data(conv.shape));
  call->map = backward_map(conv.shape);
  BoundKernel bound;
  bound.workspace = bytes;
  bound.run = [c = call](const RunArgs& r) {
    const float* dy = c->y_in(static_cast<const float*>(r.in[0]), r.workspace);
    float* dx = static_cast<float*>(r.out[0]);
    float* to = c->move_x ? c->x_copy(r.workspace) : dx;
    c->table->backward_data(c->shape, c->map.view(), dy, static_cast<const float*>(r.in[1]), to, r.workspace);
    const ConvShape& s = c->shape;
    if (c->move_x) c->table->transpose_images(to, dx, s.n, s.in_size(), s.groups * s.ci);
  };
  return bound;
}

BoundKernel bind_weight(const KernelSpec& spec) {
  const ConvTable* table = table_for(spec);
  if (!table) return {};
  const ConvSpec conv = read_conv(spec, spec.inputs[0].shape, spec.outputs[0].shape, spec.inputs[1].shape);
  if (wants_winograd(spec)) return cpu::bind_winograd(spec, conv, nullptr);
  auto [call, bytes] = plan_call(conv, *table, table->workspace_weight(conv.shape));
  BoundKernel bound;
  bound.workspace = bytes;
  bound.run = [c = call](const RunArgs& r) {
    const float* x = c->x_in(static_cast<const float*>(r.in[0]), r.workspace);
    const float* dy = c->y_in(static_cast<const float*>(r.in[1]), r.workspace);
    c->table->backward_weight(c->shape, x, dy, static_cast<float*>(r.out[0]), r.workspace);
  };
  return bound;
}

BoundKernel bind_plain(const KernelSpec& spec) { return bind_forward(spec, nullptr); }

// Channels last only: an epilogue sees the result where it stays.
BoundKernel bind_fused(const KernelSpec& spec) {
  if (current_isa() == Isa::Ref || spec.attrs.text_or("layout", "nchw").back() != 'c') return {};
  const FusedParts parts = take_apart(spec);
  auto epilogue = cpu::plan_fused(parts.tile);
  return epilogue ? bind_forward(parts.product, std::move(epilogue)) : BoundKernel{};
}

}  // namespace

void register_cpu_conv(Registry& registry) {
  for (const std::string op : {"conv2d", "conv3d"}) {
    registry.add("cpu", 10, op, bind_plain);
    registry.add("cpu", 10, op + "_fused", bind_fused);
    registry.add("cpu", 10, op + "_backward_data", bind_data);
    registry.add("cpu", 10, op + "_backward_weight", bind_weight);
  }
}
#else
void register_cpu_conv(Registry&) {}
#endif

}  // namespace dlcore
