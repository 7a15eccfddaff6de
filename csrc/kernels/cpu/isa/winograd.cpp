// The forward product in Winograd's domain, which with turned weights is the gradient of the input as well: 36 or 16
// products of (tiles, depth) by (depth, co), each element a chain of fma.
#include "base/parallel.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/isa/winograd_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

#ifdef DLCORE_WIDE
constexpr int64_t kFewTiles = 28;
#else
constexpr int64_t kFewTiles = 15;  // processors without AVX-512 have half the cache
#endif

// Tiles of a block, such that their transforms stay in the second-level cache; a multiple of the register tile's rows.
template <class F>
int64_t block_tiles(const WinogradShape& s) {
  const int64_t channels = max64(s.all_depth(), s.out_channels());
  const int64_t wanted = (channels <= 64    ? kFewTiles
                          : channels <= 128 ? 2 * kFewTiles
                                            : 4 * kFewTiles) *
                         36 / F::kPoints;
  const int64_t multiple = ceil_div(wanted, kTileRows) * kTileRows;
  return multiple < s.tiles() ? multiple : s.tiles();
}

static_assert(kChannels == kWide);
constexpr int64_t kSlots = 8;         // of scratch, so many chunks work side by side
constexpr int64_t kPackedTaps = 576;  // of weights that are transformed once: so many on the stack

template <class F>
struct Job {
  WinogradShape s;
  const float* in;
  const float* weights;
  float* out;
  const Epilogue* epilogue;
  bool rotated;
  int64_t block, blocks, slots;
  int64_t group_panels, panels, all_panels;  // of a group in one phase of the outputs, of one phase, of all
  bool ready;                                // the weights stand transformed
  bool by_panel;  // few tiles: a chunk is a panel of output channels of a phase; else a block of tiles
  float *u, *v, *m, *filters;
  int64_t u_point, u_panel, v_point, v_slot, m_slot, filter_slot;  // floats

  Job(const WinogradShape& shape, bool transformed) : s(shape), ready(transformed) {
    block = block_tiles<F>(s);
    blocks = (s.tiles() + block - 1) / block;
    group_panels = ceil_div(s.co, kChannels);
    panels = s.groups * group_panels;
    all_panels = s.out_phases() * panels;
    by_panel = blocks == 1 || (blocks == 2 && panels > 2) || (blocks <= 4 && panels >= 8);
    if (blocks == 2 || (!by_panel && blocks <= 4)) {  // a few: alike, for two threads and four
      block = ceil_div(s.tiles(), blocks + blocks % 2);
      blocks = ceil_div(s.tiles(), block);
    }
    slots = min64(kSlots, by_panel ? all_panels : blocks);
    u_point = s.depth() * kChannels + 16;  // a line more: else often multiples of 4 KB, so that all points of a
    v_point = block * s.all_depth() + 16;  // filter or a tile would share a few lines of a cache
    u_panel = F::kPoints * u_point;
    v_slot = F::kPoints * v_point;
    m_slot = F::kPoints * block * kChannels;
    filter_slot = s.kd * s.ci * s.kernel_h * s.kernel_w * kChannels;
  }
  int64_t u_size() const { return ready ? 0 : u_panel * (by_panel ? slots : all_panels); }
  int64_t v_size() const { return v_slot * (by_panel ? blocks : slots); }
  int64_t m_size() const { return m_slot * slots; }
  int64_t filter_size() const { return ready ? 0 : filter_slot * slots; }

  void place(float* workspace) {
    u = workspace;
    v = u + u_size();
    m = v + v_size();
    filters = m + m_size();
  }

  WinogradPhase phase_of(int64_t panel) const { return s.phase(s.step_out, panel / panels); }
  int64_t group_of(int64_t panel) const { return panel % panels / group_panels; }
  int64_t channel_of(int64_t panel) const { return panel % group_panels * kChannels; }  // of its group
  int64_t channels_of(int64_t panel) const { return min64(kChannels, s.co - channel_of(panel)); }

  // Panel p of the weights, filters [begin, begin + some) of each (ci, kd), into u[point][kd][phase][ci][32], through
  // g[some][taps of the kernel][32].
  void transform_weights(int64_t p, int64_t begin, int64_t some, float* to, float* g) const {
    const int64_t first = channel_of(p), count = channels_of(p), taps = s.kernel_h * s.kernel_w;
    const float* of_group = weights + group_of(p) * s.weights();
    if (rotated) {
      for (int64_t i = 0; i < some; ++i) {
        const int64_t channel = (begin + i) / s.kd, tap = s.kd - 1 - (begin + i) % s.kd;
        pack_transposed({of_group + ((channel * s.co + first) * s.kd + tap) * taps, s.kd * taps, count, taps, 1, 0,
                         g + i * taps * kChannels, kChannels});
      }
    } else {
      const int64_t filter = s.kd * s.ci * taps;
      pack_transposed({of_group + first * filter + begin * taps, filter, count, some * taps, 1, 0, g, kChannels});
    }
    for (int64_t f = 0; f < s.in_phases(); ++f) {
      int64_t at[F::kTaps];
      s.find_taps<F>(s.step_in == 2 ? s.phase(2, f) : phase_of(p), rotated, at);
      for (int64_t i = 0; i < some; ++i) {
        const int64_t row = ((begin + i) % s.kd * s.in_phases() + f) * s.ci + (begin + i) / s.kd;
        for (int64_t c = 0; c < kChannels; c += W) {
          VF in[F::kTaps], out[F::kPoints];
#pragma GCC unroll 25
          for (int k = 0; k < F::kTaps; ++k) in[k] = at[k] < 0 ? VF{} : load(g + (i * taps + at[k]) * kChannels + c);
          winograd::filter_tile<Arithmetic, F>(in, out);
#pragma GCC unroll 36
          for (int k = 0; k < F::kPoints; ++k) store(to + k * u_point + row * kChannels + c, out[k]);
        }
      }
    }
  }

  // What transform_weights will read for panel p.
  Ahead weights_ahead(int64_t p) const {
    if (ready || p >= all_panels) return {};
    const int64_t first = channel_of(p), count = channels_of(p), filter = s.kd * s.kernel_h * s.kernel_w;
    const float* of_group = weights + group_of(p) * s.weights();
    if (rotated) return {of_group + first * filter, s.co * filter, s.ci, count * filter};
    return {of_group + first * s.ci * filter, 0, 1, count * s.ci * filter};
  }

  // The epilogue over the pixels of tiles [from, to): stretches of rows, tiles side by side.
  void apply(int64_t from, int64_t to) const {
    if (!epilogue) return;
    constexpr int M = F::W::M;
    if (s.dilation_h != 1 || s.dilation_w != 1) {
      for (; from < to; ++from) {
        const TilePosition p = tile_position(s, from);
        for (int64_t h = p.top, r = 0; r < F::H::M && h < s.oh; ++r, h += s.dilation_h)
          for (int64_t w = p.left, q = 0; q < M && w < s.ow; ++q, w += s.dilation_w)
            epilogue->range(*epilogue, ((p.slice * s.oh + h) * s.ow + w) * s.out_channels(), s.out_channels());
      }
      return;
    }
    const int64_t across = s.tiles_w();
    while (from < to) {
      const TilePosition p = tile_position(s, from);
      const int64_t room = across - p.left / M, count = room < to - from ? room : to - from;
      const int64_t right = p.left + count * M < s.ow ? p.left + count * M : s.ow;
      for (int64_t h = p.top; h < p.top + F::H::M && h < s.oh; ++h)
        epilogue->range(*epilogue, ((p.slice * s.oh + h) * s.ow + p.left) * s.out_channels(),
                        (right - p.left) * s.out_channels());
      from += count;
    }
  }

  int64_t tiles_of(int64_t b) const { return s.tiles() - b * block < block ? s.tiles() - b * block : block; }

  void transform_inputs(int64_t b, WinogradPhase of_out, float* to) const {
    dlcore::DLCORE_ISA::transform_inputs<F>(s, of_out, in, b * block, tiles_of(b), to, v_point);
  }

  // The end of the panels from p on, all channels of some phases, whose outputs see the same tiles of inputs.
  int64_t end_of_alike(int64_t p) const {
    const WinogradPhase begin = phase_of(p);
    for (p += panels; p < all_panels; p += panels) {
      const WinogradPhase next = phase_of(p);
      if (s.pad_top[next.h] != s.pad_top[begin.h] || s.pad_left[next.w] != s.pad_left[begin.w]) break;
    }
    return p;
  }

  // Block b by panel p: a product for each point, which ask for some memory, then out of Winograd's domain.
  void multiply(int64_t b, int64_t p, const float* vb, const float* up, float* mb, const Ahead& ahead,
                const Ahead& then) const {
    const int64_t count = tiles_of(b), depth = s.all_depth(), group = group_of(p);
    const WinogradPhase phase = phase_of(p);
    for (int point = 0; point < F::kPoints; ++point) {
      const WinogradShape::Depth rows = s.depth_at<F>(point, phase);
      const float* a = vb + point * v_point + group * s.depth() + rows.from;
      float* c = mb + point * block * kChannels;
      const float* u = up + point * u_point + rows.from * kChannels;
      const int64_t k = rows.to - rows.from, whole = count / kTileRows, done = whole * kTileRows;
      const auto rows_by_panel = [&](int rows, int64_t tiles, int64_t from, bool asks) {
        run_wide(rows, channels_of(p),
                 {.a = a + from * depth,
                  .a_next = rows * depth,
                  .b = u,
                  .tiles = tiles,
                  .k = k,
                  .c = c + from * kChannels,
                  .c_row = kChannels,
                  .a_row = depth,
                  .first = asks ? ahead.part(point, F::kPoints) : Ahead(),
                  .then = asks ? then.part(point, F::kPoints) : Ahead()});
      };
      if (whole) rows_by_panel(kTileRows, whole, 0, true);
      if (done < count) rows_by_panel(static_cast<int>(count - done), 1, done, !whole);
    }
    transform_outputs<F>(s, phase, mb, block * kChannels, b * block, count, group * s.co + channel_of(p),
                         channels_of(p), out);
  }
};

template <class F>
size_t transformed_floats(const WinogradShape& shape) {
  const Job<F> job(shape, false);
  return static_cast<size_t>(job.u_panel * job.all_panels);
}

template <class F>
void transform(const WinogradShape& shape, const float* weights, bool rotated, float* transformed) {
  Job<F> job(shape, false);
  job.weights = weights;
  job.rotated = rotated;
  const int64_t taps = shape.kernel_h * shape.kernel_w, part = kPackedTaps / taps, filters = shape.kd * shape.ci;
  parallel_for(job.all_panels, F::kPoints * shape.depth() * shape.out_channels() / 2, [&](int64_t p) {
    float packed[kPackedTaps * kChannels];
    for (int64_t i = 0; i < filters; i += part)
      job.transform_weights(p, i, min64(part, filters - i), transformed + p * job.u_panel, packed);
  });
}

template <class F>
size_t workspace(const WinogradShape& shape, bool transformed) {
  const Job<F> job(shape, transformed);
  return static_cast<size_t>(job.u_size() + job.v_size() + job.m_size() + job.filter_size()) * sizeof(float);
}

template <class F>
void run(const WinogradShape& shape, const float* in, const float* weights, bool rotated, const float* transformed,
         float* out, void* work, const Epilogue* epilogue) {
  Job<F> job(shape, transformed != nullptr);
  if (job.s.tiles() == 0 || shape.out_channels() == 0) return;
  job.in = in;
  job.weights = weights;
  job.rotated = rotated;
  job.out = out;
  job.epilogue = epilogue;
  job.place(static_cast<float*>(work));
  const int64_t depth = shape.depth(), filters = shape.kd * shape.ci, panels = job.all_panels;
  const int64_t outputs = shape.out_phases() * shape.out_channels();
  const int64_t moves = F::kPoints * shape.tiles() * shape.all_depth() / 2,
                products = F::kPoints * shape.tiles() * depth * outputs / 32;
  const int64_t weight_moves = transformed ? 0 : F::kPoints * depth * outputs / 2;
  const int64_t at_once = min64(job.slots, num_threads());
  if (job.by_panel) {
    for (int64_t first = 0, end; first < panels; first = end) {
      end = job.end_of_alike(first);
      parallel_for(job.blocks, moves,
                   [&](int64_t b) { job.transform_inputs(b, job.phase_of(first), job.v + b * job.v_slot); });
      in_slots(min64(job.slots, end - first), end - first, products + weight_moves, [&](int64_t slot, int64_t i) {
        const int64_t p = first + i;
        float* own = job.u + slot * job.u_panel;
        if (!transformed) job.transform_weights(p, 0, filters, own, job.filters + slot * job.filter_slot);
        const float* u = transformed ? transformed + p * job.u_panel : own;
        const Ahead next = job.weights_ahead(p + at_once);
        for (int64_t b = 0; b < job.blocks; ++b)
          job.multiply(b, p, job.v + b * job.v_slot, u, job.m + slot * job.m_slot, {}, next.part(b, job.blocks));
      });
    }
    parallel_for(job.blocks, shape.tiles() * shape.out_channels(),
                 [&](int64_t b) { job.apply(b * job.block, b * job.block + job.tiles_of(b)); });
  } else {
    if (!transformed)
      in_slots(min64(job.slots, panels), panels, weight_moves, [&](int64_t slot, int64_t p) {
        job.transform_weights(p, 0, filters, job.u + p * job.u_panel, job.filters + slot * job.filter_slot);
      });
    const float* u = transformed ? transformed : job.u;
    in_slots(job.slots, job.blocks, products + moves, [&](int64_t slot, int64_t b) {
      float* v = job.v + slot * job.v_slot;
      const Ahead outputs = outputs_ahead(shape, out, b * job.block, job.block),
                  inputs = inputs_ahead(shape, in, (b + at_once) * job.block, job.block);
      for (int64_t first = 0, end; first < panels; first = end) {
        end = job.end_of_alike(first);
        job.transform_inputs(b, job.phase_of(first), v);
        for (int64_t p = first; p < end; ++p)
          job.multiply(b, p, v, u + p * job.u_panel, job.m + slot * job.m_slot, p == 0 ? outputs : Ahead(),
                       inputs.part(p, panels));
      }
      job.apply(b * job.block, b * job.block + job.tiles_of(b));
    });
  }
}

}  // namespace

namespace winograd_weight {
template <class F>
size_t workspace(const WinogradShape& shape);
template <class F>
void run(const WinogradShape& shape, const float* in, const float* dout, float* dw, void* workspace);
}  // namespace winograd_weight

template <class F>
constexpr WinogradTable table() {
  return {transformed_floats<F>,         transform<F>,           workspace<F>, run<F>,
          winograd_weight::workspace<F>, winograd_weight::run<F>};
}
#define DLCORE_FORM(F) table<winograd::F>(),
const WinogradTable winograd_tables[kWinogradForms] = {DLCORE_WINOGRAD_FORMS(DLCORE_FORM)};
#undef DLCORE_FORM

}  // namespace dlcore::DLCORE_ISA
