// Matrix products of bfloat16 by the dot product of pairs: blocks of A and B packed as pairs along the reduction,
// [pair][row or column], an odd last one with a zero; sums in float32, rounded once at the end.
#include "base/parallel.h"
#include "kernels/cpu/isa/bf16_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

void widen(const uint16_t* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + W <= count; i += W) store(to + i, as_float(widen_shorts(from + i) << 16));
  for (; i < count; ++i) store_partial(to + i, as_float(splat(static_cast<int32_t>(from[i])) << 16), 1);
}

DLCORE_INLINE VI rounded(VF v) {
  const VU bits = as_unsigned(as_int(v));  // of NaN, not wanted, the sum may go beyond
  const VU even = bits + 0x7fff + ((bits >> 16) & 1);
  return (VI)((v == v ? even : (bits & 0x80000000u) | 0x7fc00000u) >> 16);
}

void round(const float* from, int64_t count, uint16_t* to) {
  int64_t i = 0;
  for (; i + W <= count; i += W) store_shorts(to + i, rounded(load(from + i)));
  if (i < count) {
    uint16_t last[W];
    store_shorts(last, rounded(load_partial(from + i, static_cast<int>(count - i))));
    for (int64_t j = i; j < count; ++j) to[j] = last[j - i];
  }
}

#ifdef DLCORE_WIDE
constexpr int64_t kBlockPairs = 384;
constexpr int64_t kBlockN = 768;  // with kBlockPairs 1.1 MB of B, of which a panel (48 KB) is in use

struct Tile {
  const int32_t* a;  // [pair][row]
  const int32_t* b;  // [pair][kPanel]
  int64_t pairs;
  float* c;
  int64_t c_row;
  bool accumulate;
};

template <int R>
DLCORE_BF16 void tile(const Tile& t) {
  VF acc[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    acc[r][0] = acc[r][1] = VF{};
    if (t.accumulate) {
      acc[r][0] = load(t.c + r * t.c_row);
      acc[r][1] = load(t.c + r * t.c_row + W);
    }
  }
  const int32_t *a = t.a, *b = t.b;
  for (int64_t p = t.pairs; p > 0; --p) {
    const VI b0 = load(b), b1 = load(b + W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const VI x = splat(a[r]);
      acc[r][0] = dot_pairs(acc[r][0], x, b0);
      acc[r][1] = dot_pairs(acc[r][1], x, b1);
    }
    a += R;
    b += kPanel;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    store(t.c + r * t.c_row, acc[r][0]);
    store(t.c + r * t.c_row + W, acc[r][1]);
  }
}

using TileFn = void (*)(const Tile&);
constexpr TileFn kTiles[kTileRows] = {tile<1>, tile<2>, tile<3>,  tile<4>,  tile<5>,  tile<6>,  tile<7>,
                                      tile<8>, tile<9>, tile<10>, tile<11>, tile<12>, tile<13>, tile<14>};

int64_t block_k(const GemmArgs& g) { return max64(2, ceil_div(even(g.k, 2 * kBlockPairs), 2) * 2); }
int64_t panels(int64_t n) { return ceil_div(n, kPanel); }
int64_t packed_size(const GemmArgs& g) { return panels(min64(g.n, kBlockN)) * kPanel * block_k(g) / 2; }
bool in_one(const GemmArgs& g) { return g.k <= block_k(g); }

// Few rows use B only a few times: each task packs a stretch of its columns and uses it up while it is in the cache,
// by an A that stands packed as a whole.
constexpr int64_t kFewRows = 4 * kTileRows, kFewPairs = 128;
bool has_few_rows(const GemmArgs& g) { return g.m <= kFewRows; }
int64_t rows_a_tile(const GemmArgs& g) { return ceil_div(g.m, ceil_div(g.m, kTileRows)); }

// Asks for one of `parts` parts of columns n0 … n0 + n, elements k0 … k0 + k.
void ask_for(const Source& b, int64_t n0, int64_t n, int64_t k0, int64_t k, int64_t part, int64_t parts) {
  constexpr int64_t kLine = 32;
  const bool by_column = b.k_step == 1;
  const int64_t outer = by_column ? n : k, inner = by_column ? k : n;
  for (int64_t i = outer * part / parts; i < outer * (part + 1) / parts; ++i)
    for (int64_t l = 0; l < inner; l += kLine)
      __builtin_prefetch(by_column ? b.at(n0 + i, k0 + l) : b.at(n0 + l, k0 + i), 0, 2);
}

void multiply_few(const GemmArgs& g, const Source& a, const Source& b, uint16_t* c, int32_t* packed_a) {
  const int64_t rows = rows_a_tile(g), all_pairs = ceil_div(g.k, 2);
  for (int64_t r0 = 0; r0 < g.m; r0 += rows) {
    const int64_t r = min64(rows, g.m - r0);
    pack(a, r0, r, 0, g.k, r, packed_a + r0 * all_pairs);
  }
  parallel_for(ceil_div(g.n, kGroup), max64(g.m, 8) * g.n * g.k / (2 * W), [&](int64_t group) {
    int32_t packed[kFewPairs * kGroup];
    float sums[kFewRows * kGroup];
    const int64_t n0 = group * kGroup, n = min64(kGroup, g.n - n0), tiles = ceil_div(g.m, rows) * ceil_div(n, kPanel);
    int64_t k0 = 0;
    do {
      const int64_t k = min64(2 * kFewPairs, g.k - k0), pairs = ceil_div(k, 2);
      pack_group(b, n0, n, k0, k, pairs, packed);
      const bool last = k0 + k >= g.k;  // then the next columns' first elements are next
      const int64_t next_n = last ? n0 + n : n0, next_k = last ? 0 : k0 + k;
      const int64_t ahead_n = min64(kGroup, g.n - next_n), ahead_k = min64(2 * kFewPairs, g.k - next_k);
      int64_t done = 0;
      for (int64_t r0 = 0; r0 < g.m; r0 += rows) {
        const int64_t r = min64(rows, g.m - r0);
        const int32_t* left = packed_a + r0 * all_pairs + k0 / 2 * r;
        for (int64_t j = 0; j < n; j += kPanel) {
          ask_for(b, next_n, ahead_n, next_k, ahead_k, done++, tiles);
          kTiles[r - 1]({left, packed + j * pairs, pairs, sums + r0 * kGroup + j, kGroup, k0 > 0});
        }
      }
      k0 += k;
    } while (k0 < g.k);
    for (int64_t q = 0; q < g.m; ++q) round(sums + q * kGroup, n, c + q * g.n + n0);
  });
}

size_t workspace(
    const GemmArgs& g) {  // packed A for few rows; else packed B and sums where the reduction takes several blocks
  if (has_few_rows(g)) return static_cast<size_t>(g.m * ceil_div(g.k, 2) + W) * sizeof(int32_t);
  const int64_t sums = in_one(g) ? 0 : g.m * panels(min64(g.n, kBlockN)) * kPanel;
  return static_cast<size_t>(packed_size(g) + sums) * sizeof(float);
}

void multiply(const GemmArgs& g, const Source& a, const Source& b, uint16_t* c, int32_t* packed, float* sums) {
  const int64_t tiles = ceil_div(g.m, kTileRows), rows = ceil_div(g.m, tiles), step = block_k(g);
  const int64_t tiles_a_chunk = ceil_div(tiles, 32);
  const bool whole = in_one(g);
  for (int64_t n0 = 0; n0 < g.n; n0 += kBlockN) {
    const int64_t n = min64(kBlockN, g.n - n0), wide = panels(n) * kPanel;
    int64_t k0 = 0;
    do {
      const int64_t k = min64(step, g.k - k0), pairs = ceil_div(k, 2);
      parallel_for(ceil_div(n, kGroup), n * k / 8, [&](int64_t group) {
        const int64_t j = group * kGroup;
        pack_group(b, n0 + j, min64(kGroup, n - j), k0, k, pairs, packed + j * pairs);
      });
      parallel_for(ceil_div(tiles, tiles_a_chunk), g.m * n * k / (2 * W), [&](int64_t chunk) {
        int32_t a_panel[kTileRows * kBlockPairs + W];
        float tile_sums[kTileRows * kPanel];
        const int64_t last = min64(tiles, (chunk + 1) * tiles_a_chunk);
        for (int64_t i = chunk * tiles_a_chunk; i < last && i * rows < g.m; ++i) {
          const int64_t r0 = i * rows, r = min64(rows, g.m - r0);
          pack(a, r0, r, k0, k, r, a_panel);
          for (int64_t j = 0; j < n; j += kPanel) {
            float* sum = whole ? tile_sums : sums + r0 * wide + j;
            const int64_t sum_row = whole ? kPanel : wide;
            kTiles[r - 1]({a_panel, packed + j * pairs, pairs, sum, sum_row, k0 > 0});
            if (k0 + k >= g.k)
              for (int64_t q = 0; q < r; ++q)
                round(sum + q * sum_row, min64(kPanel, n - j), c + (r0 + q) * g.n + n0 + j);
          }
        }
      });
      k0 += k;
    } while (k0 < g.k);
  }
}

void run(const GemmArgs& g, const uint16_t* a, const uint16_t* b, uint16_t* c, void* workspace) {
  if (g.m == 0 || g.n == 0) return;
  int32_t* packed = static_cast<int32_t*>(workspace);
  float* sums = static_cast<float*>(workspace) + packed_size(g);
  for (int64_t i = 0; i < g.batch; ++i) {
    const Source left = left_of(g, a, i), right = right_of(g, b, i);
    uint16_t* result = c + i * g.m * g.n;
    if (has_few_rows(g))
      multiply_few(g, left, right, result, packed);
    else
      multiply(g, left, right, result, packed, sums);
  }
}
#endif

}  // namespace

#ifdef DLCORE_WIDE
const GemmBf16Table gemm_bf16_table = {widen, round, {workspace, run}, gemm_by_tiles};
#else
const GemmBf16Table gemm_bf16_table = {widen, round, {}, {}};
#endif

}  // namespace dlcore::DLCORE_ISA
