// The gradient of the weights in Winograd's domain: 36 or 16 products of (co, tiles) by (tiles, depth), each element
// one chain of fma over all tiles in ascending order, then back to the filter. Blocks of tiles are transformed first,
// by tiles, then multiplied, by points and stretches of co; the sums stay in memory between blocks.
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
    const int64_t channels = s.depth() + s.co;
    block = (channels <= 128 ? 96 : 128) * 36 / F::kPoints;  // so measured: some megabyte
    if (block > s.tiles()) block = s.tiles();
    blocks = block ? (s.tiles() + block - 1) / block : 0;
    v_point = block * s.depth() + 16;
    d_point = block * s.co + 16;
    v = F::kPoints * v_point;
    d = F::kPoints * d_point;
    sums = F::kPoints * s.depth() * s.co;
  }
};

// The narrow tile wants its operands packed (gemm_parts.h), and many rows to repay it.
constexpr bool kPacked = kTilesABlock > 1;
constexpr int64_t kRowChunk = kTileRows * (kPacked ? kTilesABlock : 4);

// Rows [first, first + count) of co at one point: sums[co][depth] += d[tile][co]ᵀ v[tile][depth].
void multiply(const WinogradShape& s, const float* v, const float* d, float* sums, int64_t first, int64_t count,
              int64_t tiles, bool accumulate) {
  const int64_t depth = s.depth();
  if (kPacked) {
    GemmArgs product;
    product.m = s.co, product.n = product.ldb = depth, product.k = tiles;
    product.a_row = 1, product.a_col = s.co;
    product.a = d, product.b = v, product.c = sums;
    run_rows_alone(product, first, count, accumulate);
    return;
  }
  for (int64_t c = 0; c < depth; c += kPanel) {
    const int64_t cols = depth - c < kPanel ? depth - c : kPanel;
    for (int64_t r = first; r < first + count; r += kTileRows) {
      const int rows = first + count - r < kTileRows ? static_cast<int>(first + count - r) : kTileRows;
      const Segment segment{d + r, v + c, tiles};
      run_tile(rows, cols, {&segment, 1, 1, s.co, depth, sums + r * depth + c, depth, accumulate});
    }
  }
}

// One output channel's filters: sums[point][kd][ci] → dw[ci][kd][tap].
template <class F>
void finish(const WinogradShape& s, const float* sums, int64_t o, float* dw) {
  constexpr int kTaps = F::kTaps;
  for (int64_t slice = 0; slice < s.kd; ++slice) {
    for (int64_t c = 0; c < s.ci; c += W) {
      const int lanes = s.ci - c < W ? static_cast<int>(s.ci - c) : W;
      VF u[F::kPoints], g[kTaps];
#pragma GCC unroll 36
      for (int i = 0; i < F::kPoints; ++i) u[i] = load_some(sums + ((i * s.co + o) * s.kd + slice) * s.ci + c, lanes);
      winograd::filter_gradient_tile<Arithmetic, F>(u, g);
      float columns[kTaps * W];
      for (int k = 0; k < kTaps; ++k) store(columns + k * W, g[k]);
      float* to = dw + ((o * s.ci + c) * s.kd + slice) * kTaps;
      for (int i = 0; i < lanes; ++i)
        for (int k = 0; k < kTaps; ++k) to[i * s.kd * kTaps + k] = columns[k * W + i];
    }
  }
}

}  // namespace

template <class F>
size_t winograd_weight::workspace(const WinogradShape& shape) {
  const Sizes<F> z(shape);
  return static_cast<size_t>(z.v + z.d + z.sums) * sizeof(float);
}

template <class F>
void winograd_weight::run(const WinogradShape& shape, const float* in, const float* dout, float* dw, void* workspace) {
  const WinogradShape s = shape;
  const Sizes<F> z(s);
  float* v = static_cast<float*>(workspace);
  float* d = v + z.v;
  float* sums = d + z.d;
  if (!z.blocks) {
    for (int64_t i = 0; i < s.co * s.depth() * F::kTaps; ++i) dw[i] = 0.0f;
    return;
  }
  for (int64_t b = 0; b < z.blocks; ++b) {
    const int64_t first = b * z.block, count = s.tiles() - first < z.block ? s.tiles() - first : z.block;
    constexpr int64_t kTiles = 8;
    parallel_for((count + kTiles - 1) / kTiles, count * (s.depth() + s.co) * F::kPoints / 4, [&](int64_t chunk) {
      const int64_t t = chunk * kTiles, some = min64(kTiles, count - t);
      transform_inputs<F>(s, in, first + t, some, v + t * s.depth(), z.v_point);
      transform_gradients<F>(s, dout, first + t, some, d + t * s.co, z.d_point);
    });
    const int64_t stretches = (s.co + kRowChunk - 1) / kRowChunk;
    parallel_for(F::kPoints * stretches, F::kPoints * count * s.depth() * s.co / 32, [&](int64_t chunk) {
      const int64_t point = chunk / stretches, row = chunk % stretches * kRowChunk;
      const int64_t rows = s.co - row < kRowChunk ? s.co - row : kRowChunk;
      multiply(s, v + point * z.v_point, d + point * z.d_point, sums + point * s.co * s.depth(), row, rows, count,
               b > 0);
    });
  }
  parallel_for(s.co, s.co * s.depth() * F::kPoints / 4, [&](int64_t o) { finish<F>(s, sums, o, dw); });
}

#define DLCORE_FORM(F)                                                           \
  template size_t winograd_weight::workspace<winograd::F>(const WinogradShape&); \
  template void winograd_weight::run<winograd::F>(const WinogradShape&, const float*, const float*, float*, void*);
DLCORE_WINOGRAD_FORMS(DLCORE_FORM)
#undef DLCORE_FORM

}  // namespace dlcore::DLCORE_ISA
