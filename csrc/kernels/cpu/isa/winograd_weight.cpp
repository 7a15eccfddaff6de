// The gradient of the weights in Winograd's domain: 36 or 16 products of (co, tiles) by (tiles, depth), each element
// one chain of fma over all tiles in ascending order, then back to the filter. Blocks of tiles are transformed first,
// by tiles, then multiplied, by points and stretches of co; the sums stay in memory between blocks. Where one block is
// all, a patch of the weights is multiplied at all points and taken back at once: its sums never leave the cache.
#include "base/parallel.h"
#include "kernels/cpu/isa/gemm_parts.h"
#include "kernels/cpu/isa/winograd_parts.h"

namespace dlcore::DLCORE_ISA {

namespace winograd_weight {
template <class F>
size_t workspace(const WinogradShape& shape);
template <class F>
void run(const WinogradShape& shape, const float* in, const float* dout, float* dw, void* workspace);
}  // namespace winograd_weight

namespace {

template <class F>
struct Sizes {
  int64_t block, blocks, v, d, sums;  // tiles; floats
  int64_t v_point, d_point;           // from one point to the next: a line more than a block, which is often a power of
                                      // two and would put all points of a tile into the same few lines of a cache
  explicit Sizes(const WinogradShape& s) {
    const int64_t channels = s.all_depth() + s.out_channels();
    block = (channels <= 128 ? 96 : 128) * 36 / F::kPoints;  // so measured: some megabyte
    if (block > s.tiles()) block = s.tiles();
    blocks = block ? (s.tiles() + block - 1) / block : 0;
    v_point = block * s.all_depth() + 16;
    d_point = block * s.out_channels() + 16;
    v = F::kPoints * v_point;
    d = F::kPoints * d_point;
    sums = F::kPoints * s.depth() * s.out_channels();
  }
};

// The narrow tile wants its operands packed (gemm_parts.h), and many rows to repay it.
constexpr bool kPacked = kTilesABlock > 1;
constexpr int64_t kRowChunk = kTileRows * (kPacked ? kTilesABlock : 4);
constexpr int64_t kPatchColumns = 64;  // with kRowChunk rows at 36 points half a megabyte of sums
constexpr int64_t kPatchSlots = 8;

// Patches for more sums than a second-level cache holds: so many, in rows of `across`, over so many slots of scratch.
template <class F>
struct Patches {
  bool used;
  int64_t across, count, slots;
  Patches(const WinogradShape& s, const Sizes<F>& z)
      : used(z.blocks == 1 && z.sums > 1 << 18),
        across(ceil_div(s.depth(), kPatchColumns)),
        count(s.groups * ceil_div(s.co, kRowChunk) * across),
        slots(min64(kPatchSlots, count)) {}
};

// Some of the sums at one point: of a group, rows [first, first + count) of co, columns [column, column + cols) of the
// depth.
struct Patch {
  int64_t group, first, count, column, cols;
  float* sums = nullptr;  // [count][row]
  int64_t row = 0;
};

// Less the columns that no tap is made of (WinogradShape::depth_at).
Patch needed(Patch p, WinogradShape::Depth depth) {
  const int64_t from = max64(p.column, depth.from), to = min64(p.column + p.cols, depth.to);
  p.sums += from - p.column;
  p.column = from;
  p.cols = max64(0, to - from);
  return p;
}

// sums[co][depth] (+)= d[tile][co]ᵀ v[tile][depth].
void multiply(const WinogradShape& s, const float* v, const float* d, const Patch& p, int64_t tiles, bool accumulate) {
  const int64_t depth = s.all_depth(), channels = s.out_channels();
  d += p.group * s.co + p.first;
  v += p.group * s.depth() + p.column;
  if (kPacked) {
    GemmArgs product;
    product.m = s.co - p.first, product.n = p.row, product.ldb = depth, product.k = tiles;
    product.a_row = 1, product.a_col = channels;
    product.a = d, product.b = v, product.c = p.sums;
    run_rows_alone(product, 0, p.count, p.cols, accumulate);
    return;
  }
  for (int64_t c = 0; c < p.cols; c += kPanel) {
    for (int64_t r = 0; r < p.count; r += kTileRows) {
      const Segment segment{d + r, v + c, tiles};
      run_tile(static_cast<int>(min64(kTileRows, p.count - r)), min64(kPanel, p.cols - c),
               {&segment, 1, 1, channels, depth, p.sums + r * p.row + c, p.row, accumulate});
    }
  }
}

// Where the taps of each phase's filter stand in the kernel.
template <class F>
struct Taps {
  int64_t at[4][F::kTaps];
  explicit Taps(const WinogradShape& s) {
    for (int64_t f = 0; f < s.in_phases(); ++f) s.find_taps<F>(s.phase(s.step_in, f), false, at[f]);
  }
};

// Columns [column, column + cols) of output channel o: sums[point][column] → dw[ci][kd][tap].
template <class F>
void finish(const WinogradShape& s, const Taps<F>& taps, const float* sums, int64_t point_stride, int64_t o,
            int64_t column, int64_t cols, float* dw) {
  constexpr int kTaps = F::kTaps;
  const int64_t kernel = s.kernel_h * s.kernel_w;
  for (int64_t done = 0; done < cols;) {
    const int64_t slice = (column + done) / s.ci, c = (column + done) % s.ci;
    const int64_t* at = taps.at[slice % s.in_phases()];
    const int lanes = static_cast<int>(min64(W, min64(s.ci - c, cols - done)));
    VF u[F::kPoints], g[kTaps];
#pragma GCC unroll 36
    for (int i = 0; i < F::kPoints; ++i) u[i] = load_some(sums + i * point_stride + done, lanes);
    winograd::filter_gradient_tile<Arithmetic, F>(u, g);
    float columns[kTaps * W];
    for (int k = 0; k < kTaps; ++k) store(columns + k * W, g[k]);
    float* to = dw + ((o * s.ci + c) * s.kd + slice / s.in_phases()) * kernel;
    for (int i = 0; i < lanes; ++i, to += s.kd * kernel)
      for (int k = 0; k < kTaps; ++k) {
        if (F::kStep == 1)
          to[k] = columns[k * W + i];
        else if (at[k] >= 0)
          to[at[k]] = columns[k * W + i];
      }
    done += lanes;
  }
}

}  // namespace

template <class F>
size_t winograd_weight::workspace(const WinogradShape& shape) {
  const Sizes<F> z(shape);
  const Patches<F> patches(shape, z);
  const int64_t sums = patches.used ? patches.slots * F::kPoints * kRowChunk * kPatchColumns : z.sums;
  return static_cast<size_t>(z.v + z.d + sums) * sizeof(float);
}

template <class F>
void winograd_weight::run(const WinogradShape& shape, const float* in, const float* dout, float* dw, void* workspace) {
  const WinogradShape s = shape;
  const Sizes<F> z(s);
  float* v = static_cast<float*>(workspace);
  float* d = v + z.v;
  float* sums = d + z.d;
  const Patches<F> patches(s, z);
  const Taps<F> taps(s);
  if (!z.blocks) {
    for (int64_t i = 0; i < s.groups * s.weights(); ++i) dw[i] = 0.0f;
    return;
  }
  for (int64_t b = 0; b < z.blocks; ++b) {
    const int64_t first = b * z.block, count = s.tiles() - first < z.block ? s.tiles() - first : z.block;
    constexpr int64_t kTiles = 8;
    parallel_for((count + kTiles - 1) / kTiles, count * (s.all_depth() + s.out_channels()) * F::kPoints / 4,
                 [&](int64_t chunk) {
                   const int64_t t = chunk * kTiles, some = min64(kTiles, count - t);
                   transform_inputs<F>(s, {}, in, first + t, some, v + t * s.all_depth(), z.v_point);
                   transform_gradients<F>(s, dout, first + t, some, d + t * s.out_channels(), z.d_point);
                 });
    const int64_t stretches = ceil_div(s.co, kRowChunk),
                  products = F::kPoints * count * s.depth() * s.out_channels() / 32;
    if (patches.used) {
      in_slots(patches.slots, patches.count, products, [&](int64_t slot, int64_t patch) {
        const int64_t row = patch / patches.across;
        Patch p{row / stretches, row % stretches * kRowChunk, kRowChunk, patch % patches.across * kPatchColumns,
                kPatchColumns};
        p.count = min64(p.count, s.co - p.first);
        p.row = p.cols = min64(p.cols, s.depth() - p.column);
        const int64_t point_stride = kRowChunk * kPatchColumns;
        float* own = sums + slot * F::kPoints * point_stride;
        for (int64_t point = 0; point < F::kPoints; ++point) {
          p.sums = own + point * point_stride;
          multiply(s, v + point * z.v_point, d + point * z.d_point, needed(p, s.depth_at<F>(point, {})), count, false);
        }
        for (int64_t r = 0; r < p.count; ++r)
          finish<F>(s, taps, own + r * p.cols, point_stride, p.group * s.co + p.first + r, p.column, p.cols, dw);
      });
      return;
    }
    parallel_for(F::kPoints * s.groups * stretches, products, [&](int64_t chunk) {
      const int64_t point = chunk / stretches / s.groups, group = chunk / stretches % s.groups,
                    row = chunk % stretches * kRowChunk, depth = s.depth();
      float* own = sums + ((point * s.groups + group) * s.co + row) * depth;
      const Patch p{group, row, min64(kRowChunk, s.co - row), 0, depth, own, depth};
      multiply(s, v + point * z.v_point, d + point * z.d_point, needed(p, s.depth_at<F>(point, {})), count, b > 0);
    });
  }
  const int64_t depth = s.depth(), channels = s.out_channels(), point_stride = channels * depth;
  parallel_for(channels, channels * depth * F::kPoints / 4,
               [&](int64_t o) { finish<F>(s, taps, sums + o * depth, point_stride, o, 0, depth, dw); });
}

#define DLCORE_FORM(F)                                                           \
  template size_t winograd_weight::workspace<winograd::F>(const WinogradShape&); \
  template void winograd_weight::run<winograd::F>(const WinogradShape&, const float*, const float*, float*, void*);
DLCORE_WINOGRAD_FORMS(DLCORE_FORM)
#undef DLCORE_FORM

}  // namespace dlcore::DLCORE_ISA
