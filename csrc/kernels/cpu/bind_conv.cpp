// Binds the convolutions to the vectorised kernels. They work channels last; channels-first images are transposed
// through the workspace, so that a graph without the layout pass runs at a decent speed too.
#include <cmath>
#include <memory>
#include <utility>
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

// What a phase is along one axis: its pixels, and the taps (offset, index) that they see.
struct AxisPhase {
  ConvAxis pixels;
  std::vector<std::pair<int64_t, int64_t>> taps;
};
using AxisPhases = std::vector<AxisPhase>;

AxisPhases forward_axis(int64_t out, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  AxisPhase all{{0, 1, out, stride}, {}};
  for (int64_t k = 0; k < taps; ++k) all.taps.emplace_back(k * dilation - pad, k);
  return {all};
}

// Input position p is reached from output (p + pad - k·dilation) / stride where that divides: which taps these are
// depends on p modulo stride only.
AxisPhases backward_axis(int64_t in, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  AxisPhases phases;
  for (int64_t p = 0; p < std::min(stride, in); ++p) {
    AxisPhase phase{{p, stride, (in - p + stride - 1) / stride, 1}, {}};
    for (int64_t k = 0; k < taps; ++k)
      if ((p + pad - k * dilation) % stride == 0) phase.taps.emplace_back((p + pad - k * dilation) / stride, k);
    phases.push_back(std::move(phase));
  }
  return phases;
}

// Cut where the set of taps changes that see the source and not its padding.
AxisPhases cut_borders(const AxisPhases& phases, int64_t source_size) {
  AxisPhases cut;
  for (const AxisPhase& whole : phases) {
    const ConvAxis& axis = whole.pixels;
    for (int64_t i = 0; i < axis.count; ++i) {
      AxisPhase one{{axis.first + i * axis.step, axis.step, 1, axis.source}, {}};
      for (const auto& [offset, k] : whole.taps)
        if (const int64_t from = i * axis.source + offset; from >= 0 && from < source_size)
          one.taps.emplace_back(from, k);
      const bool goes_on = i > 0 && one.taps.size() == cut.back().taps.size() &&
                           (one.taps.empty() || one.taps[0].second == cut.back().taps[0].second);
      if (goes_on)
        ++cut.back().pixels.count;
      else
        cut.push_back(std::move(one));
    }
  }
  return cut;
}

// Roughly the cycles of a map: tiles of up to a dozen pixels, of which a few cost as much as four or five. Each phase
// reads the weights of its taps anew, which takes time where they come from memory: above 4 MB.
double cost(const ConvShape& s, const AxisPhases (&axes)[3], double products) {
  const double weights = static_cast<double>(s.taps()) * products * 32, reading = weights > 1 << 20 ? 8 : 0;
  double total = 0;
  for (const AxisPhase& d : axes[0]) {
    for (const AxisPhase& h : axes[1]) {
      for (const AxisPhase& w : axes[2]) {
        const auto pixels = static_cast<double>(s.n * d.pixels.count * h.pixels.count * w.pixels.count);
        const double tiles = std::ceil(pixels / 12), rows = std::ceil(pixels / std::max(1.0, tiles));
        const auto taps = static_cast<double>(d.taps.size() * h.taps.size() * w.taps.size());
        total += tiles * (taps * (products * std::max(rows, 4.5) + rows * 4) + 60) +
                 std::ceil(tiles / 16) * taps * products * reading;
      }
    }
  }
  return total;
}

// products: of a pixel and a tap, in pairs of vectors.
OwnedMap make_map(const ConvShape& s, const AxisPhases (&whole)[3], const int64_t (&source)[3], double products) {
  constexpr size_t kMostPhases = 512;
  AxisPhases cut[3], best[3] = {whole[0], whole[1], whole[2]};
  for (size_t i = 0; i < 3; ++i) cut[i] = cut_borders(whole[i], source[i]);
  double least = cost(s, whole, products);
  for (unsigned set = 1; set < 8 && !goes_by_rows(s); ++set) {
    const AxisPhases tried[3] = {set & 1 ? cut[0] : whole[0], set & 2 ? cut[1] : whole[1], set & 4 ? cut[2] : whole[2]};
    if (tried[0].size() * tried[1].size() * tried[2].size() > kMostPhases) continue;
    if (const double c = cost(s, tried, products); c < 0.97 * least) {
      least = c;
      for (size_t i = 0; i < 3; ++i) best[i] = tried[i];
    }
  }
  OwnedMap map;
  for (const AxisPhase& d : best[0]) {
    for (const AxisPhase& h : best[1]) {
      for (const AxisPhase& w : best[2]) {
        std::vector<ConvTap> taps;
        for (const auto& [offset_d, kd] : d.taps)
          for (const auto& [offset_h, kh] : h.taps)
            for (const auto& [offset_w, kw] : w.taps)
              taps.push_back({offset_d, offset_h, offset_w, (kd * s.kh + kh) * s.kw + kw});
        map.phases.push_back({d.pixels, h.pixels, w.pixels, nullptr, static_cast<int64_t>(taps.size())});
        map.taps.push_back(std::move(taps));
      }
    }
  }
  for (size_t i = 0; i < map.phases.size(); ++i) map.phases[i].taps = map.taps[i].data();
  return map;
}

double products(const ConvShape& s, int64_t source, int64_t dest) {
  if (s.ci == 1 && s.co == 1) return static_cast<double>(s.groups) / 32;
  return static_cast<double>(s.groups * source * ((dest + 31) / 32));
}

OwnedMap forward_map(const ConvShape& s) {
  if (s.n == 0) return {};
  return make_map(s,
                  {forward_axis(s.od, s.kd, s.stride_d, s.pad_front, s.dilation_d),
                   forward_axis(s.oh, s.kh, s.stride_h, s.pad_top, s.dilation_h),
                   forward_axis(s.ow, s.kw, s.stride_w, s.pad_left, s.dilation_w)},
                  {s.d, s.h, s.w}, products(s, s.ci, s.co));
}

OwnedMap backward_map(const ConvShape& s) {
  if (s.n == 0) return {};
  return make_map(s,
                  {backward_axis(s.d, s.kd, s.stride_d, s.pad_front, s.dilation_d),
                   backward_axis(s.h, s.kh, s.stride_h, s.pad_top, s.dilation_h),
                   backward_axis(s.w, s.kw, s.stride_w, s.pad_left, s.dilation_w)},
                  {s.od, s.oh, s.ow}, products(s, s.co, s.ci));
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

// What packed weights depend on: of one tap also the number of pixels, when it is small (a product of few rows).
std::string form(const char* what, const ConvShape& s) {
  const int64_t rows = s.taps() == 1 ? std::min<int64_t>(s.n * s.out_size(), 96) : 0;
  return what + to_string(Shape{static_cast<int64_t>(current_isa()), s.groups, s.co, s.ci, s.taps(), rows});
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
