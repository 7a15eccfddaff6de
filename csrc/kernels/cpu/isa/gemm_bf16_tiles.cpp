// Matrix products of bfloat16 by products of tiles (Intel's AMX): 16 rows by 32 elements of k, times 32 by 16 columns,
// in one instruction. Each sum takes the steps of 32 in ascending order, the last filled up with zeros: no blocking
// changes a bit.
#include "base/parallel.h"
#include "kernels/cpu/isa/bf16_parts.h"

#ifdef DLCORE_WIDE
namespace dlcore::DLCORE_ISA {
#ifdef DLCORE_TILES
namespace {

constexpr int64_t kTile = 16, kStep = 32;  // rows or columns of a tile, and elements of k
constexpr int64_t kPairs = kStep / 2;

// A block of B, kBlock elements, stays in the second-level cache; two blocks of 32 rows pass a panel of it while it is
// in the first. As deep as can be: sums that go on in the next block come from afar.
constexpr int64_t kBlock = 3 << 17, kDepth = 64 * kStep, kLeastDepth = 32 * kStep, kRows = 64;
constexpr int64_t kPacked = 4 * kStep;  // rows of B packed by one task

// Few rows use up a stretch of B at once. Of rows that lie apart 512 bytes are read together.
constexpr int64_t kFewRows = 64, kFewColumns = 256, kFewDepth = 8 * kStep;

int64_t steps_of(int64_t k) { return ceil_div(k, kStep); }
int64_t whole_panels(int64_t n) { return ceil_div(n, kPanel) * kPanel; }

// One side of a product: bytes from row to row of a tile, from step to step of k and from tile to tile.
struct Operand {
  const void* data;
  int64_t row, step, next;

  const void* at(int64_t tile, int64_t step_of_k) const {
    return static_cast<const char*>(data) + tile * next + step_of_k * step;
  }
  Operand from(int64_t tile, int64_t step_of_k) const { return {at(tile, step_of_k), row, step, next}; }
};

Operand rows_packed(const uint16_t* a, int64_t steps) {
  return {a, kStep * 2, kTile * kStep * 2, steps * kTile * kStep * 2};
}
Operand rows_in_place(const Source& s, int64_t r, int64_t k) {  // which lie along k
  return {s.at(r, k), s.lane_step * 2, kStep * 2, kTile * s.lane_step * 2};
}
Operand panel_packed(const int32_t* panel) { return {panel, kPanel * 4, kPairs * kPanel * 4, kTile * 4}; }

// C (+)= A·B of M by N tiles, the sums in registers.
template <int M, int N>
DLCORE_TILES void multiply_steps(const Operand& a, const Operand& b, int64_t steps, float* c, int64_t c_row,
                                 bool accumulate) {
  const int64_t c_bytes = c_row * 4;
  float *c1 = c + kTile, *c2 = c + kTile * c_row, *c3 = c2 + kTile;
  if (accumulate) {
    load_tile<0>(c, c_bytes);
    if (N > 1) load_tile<1>(c1, c_bytes);
    if (M > 1) load_tile<2>(c2, c_bytes);
    if (M > 1 && N > 1) load_tile<3>(c3, c_bytes);
  } else {
    zero_tile<0>();
    if (N > 1) zero_tile<1>();
    if (M > 1) zero_tile<2>();
    if (M > 1 && N > 1) zero_tile<3>();
  }
  const auto *left = static_cast<const char*>(a.data), *right = static_cast<const char*>(b.data);
  for (; steps > 0; --steps, left += a.step, right += b.step) {
    load_tile<4>(left, a.row);
    load_tile<6>(right, b.row);
    multiply_tiles<0, 4, 6>();
    if (N > 1) {
      load_tile<7>(right + b.next, b.row);
      multiply_tiles<1, 4, 7>();
    }
    if (M > 1) {
      load_tile<5>(left + a.next, a.row);
      multiply_tiles<2, 5, 6>();
      if (N > 1) multiply_tiles<3, 5, 7>();
    }
  }
  store_tile<0>(c, c_bytes);
  if (N > 1) store_tile<1>(c1, c_bytes);
  if (M > 1) store_tile<2>(c2, c_bytes);
  if (M > 1 && N > 1) store_tile<3>(c3, c_bytes);
}

// At most 32 rows by 32 columns; C has room for whole tiles.
void multiply_block(int64_t rows, int64_t columns, const Operand& a, const Operand& b, int64_t steps, float* c,
                    int64_t c_row, bool accumulate) {
  const auto run = rows > kTile ? (columns > kTile ? multiply_steps<2, 2> : multiply_steps<2, 1>)
                                : (columns > kTile ? multiply_steps<1, 2> : multiply_steps<1, 1>);
  run(a, b, steps, c, c_row, accumulate);
}

// Finished sums to bfloat16.
DLCORE_TILES void put(const float* sums, int64_t sums_row, int64_t rows, int64_t n, uint16_t* c, int64_t c_row) {
  for (int64_t r = 0; r < rows; ++r, sums += sums_row, c += c_row) {
    int64_t j = 0;
    for (; j + W <= n; j += W) store_rounded(c + j, load(sums + j));
    if (j == n) continue;
    uint16_t last[W];
    store_rounded(last, load_partial(sums + j, static_cast<int>(n - j)));
    for (int64_t i = j; i < n; ++i) c[i] = last[i - j];
  }
}

// Rows r0 … of a matrix of pairs as [tile][step][row][kStep], zeros beyond its rows and its k. What lies side by side
// in memory is read at once.
void pack_tiles(const Source& s, int64_t r0, int64_t rows, int64_t k0, int64_t k, uint16_t* to) {
  const int64_t steps = steps_of(k), height = ceil_div(rows, kTile) * kTile;
  const auto at = [&](int64_t r, int64_t step) {
    return reinterpret_cast<float*>(to + ((r / kTile * steps + step) * kTile + r % kTile) * kStep);
  };
  int64_t step = 0;
  if (s.k_step == 1) {
    step = k / kStep;
    for (int64_t r = 0; r < height; ++r)
      for (int64_t p = 0; p < step; ++p)
        store(at(r, p), r < rows ? as_float(load_pairs(s.at(r0 + r, k0 + p * kStep))) : VF{});
  }
  for (; step < steps; ++step) {
    for (int64_t r = 0; r < height; r += kTile) {
      int32_t pairs[kPairs * W] = {};
      pack(s, r0 + r, min64(kTile, rows - r), k0 + step * kStep, min64(kStep, k - step * kStep), W, pairs);
      VF v[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) v[i] = as_float(load(pairs + i * W));
      transpose_registers(v);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) store(at(r, step) + i * W, v[i]);
    }
  }
}

// Lanes of a matrix of pairs as panels [pair][kPanel], `panel` pairs apart, each of whole steps.
void pack_panels(const Source& s, int64_t lane, int64_t lanes, int64_t k0, int64_t k, int64_t panel, int32_t* to) {
  pack_group(s, lane, lanes, k0, k, panel, to);
  for (int64_t j = 0; k % kStep != 0 && j < lanes; j += kPanel)
    for (int64_t p = ceil_div(k, 2); p < steps_of(k) * kPairs; ++p)
      for (int64_t half = 0; half < kPanel; half += W) store(to + (j * panel + p * kPanel) + half, VI{});
}

// A as tiles: where it lies along k and whole tiles cover it, else packed.
struct Rows {
  const Source& source;
  const uint16_t* packed;  // nullptr: in place
  int64_t steps;           // of all of k

  Operand at(int64_t r, int64_t k) const {
    return packed ? rows_packed(packed, steps).from(r / kTile, k / kStep) : rows_in_place(source, r, k);
  }
};

struct Block {
  const GemmArgs& g;
  Rows a;
  const int32_t* panels;  // of B, from column n0 on
  int64_t n0, n, k0, k;
  float* sums;  // blocks of 32 rows and columns, row of them by row; nullptr where k is one block
  uint16_t* c;
};

// Rows r0 … of C by the panels of columns j0 … j1 of the block.
void multiply_rows(const Block& t, int64_t r0, int64_t j0, int64_t j1) {
  alignas(64) float own[kPanel * kPanel];
  const int64_t end = min64(r0 + kRows, t.g.m), steps = steps_of(t.k);
  begin_tiles();
  for (int64_t j = j0; j < j1; j += kPanel) {
    const Operand b = panel_packed(t.panels + j * steps * kPairs);
    for (int64_t r = r0; r < end; r += kPanel) {
      const int64_t height = min64(kPanel, end - r), width = min64(kPanel, t.n - j);
      float* sums = t.sums ? t.sums + r * whole_panels(t.n) + j * kPanel : own;
      multiply_block(height, width, t.a.at(r, t.k0), b, steps, sums, kPanel, t.k0 > 0);
      if (t.k0 + t.k == t.g.k) put(sums, kPanel, height, width, t.c + r * t.g.n + t.n0 + j, t.g.n);
    }
  }
  end_tiles();
}

// What the workspace holds besides packed rows: a block of B and, where k is several blocks, sums.
struct Blocks {
  const GemmArgs& g;
  int64_t depth = even(steps_of(g.k), kDepth / kStep) * kStep;
  int64_t columns = whole_panels(even(g.n, kBlock / max64(depth, kLeastDepth)));
  int64_t panels = columns * depth / 2, sums = depth < g.k ? whole_panels(g.m) * columns : 0;

  size_t bytes() const { return static_cast<size_t>(panels + sums) * sizeof(float); }
};

void multiply(const GemmArgs& g, const Rows& a, const Source& b, uint16_t* c, int32_t* packed) {
  const Blocks sizes{g};
  const int64_t blocks = ceil_div(g.m, kRows);
  auto* sums = sizes.sums ? reinterpret_cast<float*>(packed + sizes.panels) : nullptr;
  for (int64_t n0 = 0; n0 < g.n; n0 += sizes.columns) {
    const int64_t n = min64(sizes.columns, g.n - n0), panels = ceil_div(n, kPanel);
    const int64_t parts = min64(panels, ceil_div(8, blocks));
    for (int64_t k0 = 0; k0 < g.k; k0 += sizes.depth) {
      const int64_t k = min64(sizes.depth, g.k - k0), panel = steps_of(k) * kPairs, stretches = ceil_div(k, kPacked);
      parallel_for(ceil_div(n, kFewColumns) * stretches, n * k / 16, [&](int64_t i) {
        const int64_t j = i / stretches * kFewColumns, p = i % stretches * kPacked;
        pack_panels(b, n0 + j, min64(kFewColumns, n - j), k0 + p, min64(kPacked, k - p), panel,
                    packed + j * panel + p / 2 * kPanel);
      });
      const Block block{g, a, packed, n0, n, k0, k, sums, c};
      parallel_for(blocks * parts, g.m * n * k / 512, [&](int64_t i) {
        const int64_t part = i % parts;
        multiply_rows(block, i / parts * kRows, panels * part / parts * kPanel, panels * (part + 1) / parts * kPanel);
      });
    }
  }
}

// Columns n0 … of C for few rows, `a` all of them packed in tiles: a stretch of B is packed and used up.
void multiply_few(const GemmArgs& g, const Rows& a, const Source& b, uint16_t* c, int64_t n0) {
  alignas(64) int32_t packed[kFewDepth / 2 * kFewColumns];
  alignas(64) float sums[kFewRows * kFewColumns];
  const int64_t n = min64(kFewColumns, g.n - n0);
  begin_tiles();
  for (int64_t k0 = 0; k0 < g.k; k0 += kFewDepth) {
    const int64_t k = min64(kFewDepth, g.k - k0), steps = steps_of(k);
    pack_panels(b, n0, n, k0, k, steps * kPairs, packed);
    for (int64_t r = 0; r < g.m; r += kPanel)
      for (int64_t j = 0; j < n; j += kPanel) {
        multiply_block(g.m - r, n - j, a.at(r, k0), panel_packed(packed + j * steps * kPairs), steps,
                       sums + r * kFewColumns + j, kFewColumns, k0 > 0);
      }
  }
  end_tiles();
  put(sums, kFewColumns, g.m, n, c + n0, g.n);
}

// The same by a transposed B, whose rows along k are tiles where they lie: the transpose of the product, columns n0 …
// as its rows, by panels of A.
void multiply_few_turned(const GemmArgs& g, const int32_t* a, const Source& b, uint16_t* c, int64_t n0) {
  constexpr int64_t kLanes = kPanel;
  alignas(64) float sums[kLanes * kFewRows], turned[kFewRows * kLanes];
  alignas(64) uint16_t edge[kLanes * kFewDepth];
  const int64_t all_steps = steps_of(g.k), n = min64(kFewColumns, g.n - n0);
  begin_tiles();
  for (int64_t j = n0; j < n0 + n; j += kLanes) {
    const int64_t lanes = min64(kLanes, g.n - j);
    for (int64_t k0 = 0; k0 < g.k; k0 += kFewDepth) {
      const int64_t k = min64(kFewDepth, g.k - k0), steps = steps_of(k);
      Operand left = rows_in_place(b, j, k0);
      if (lanes < kLanes || k % kStep != 0) {
        pack_tiles(b, j, lanes, k0, k, edge);
        left = rows_packed(edge, steps);
      }
      for (int64_t r = 0; r < g.m; r += kPanel)
        multiply_block(lanes, g.m - r, left, panel_packed(a + r * all_steps * kPairs).from(0, k0 / kStep), steps,
                       sums + r, kFewRows, k0 > 0);
    }
    transpose(sums, kFewRows, lanes, g.m, turned, kLanes);
    put(turned, kLanes, g.m, lanes, c + j, g.n);
  }
  end_tiles();
}

// B, rather than products, is what few rows wait for.
int64_t few_cycles(const GemmArgs& g) { return max64(g.m, 16) * g.n * g.k / 64; }
bool has_few_rows(const GemmArgs& g) { return g.m <= kFewRows; }
bool packs_rows(const GemmArgs& g) { return has_few_rows(g) || g.a_col != 1 || g.m % kTile != 0 || g.k % kStep != 0; }
int64_t rows_shorts(const GemmArgs& g) { return packs_rows(g) ? whole_panels(g.m) * steps_of(g.k) * kStep : 0; }

size_t workspace(const GemmArgs& g) {
  return static_cast<size_t>(rows_shorts(g)) * sizeof(uint16_t) + (has_few_rows(g) ? 0 : Blocks{g}.bytes());
}

void run(const GemmArgs& g, const uint16_t* a, const uint16_t* b, uint16_t* c, void* workspace) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) {
    for (int64_t i = 0; i < g.batch * g.m * g.n; ++i) c[i] = 0;
    return;
  }
  auto* rows = static_cast<uint16_t*>(workspace);
  auto* rest = reinterpret_cast<int32_t*>(rows + rows_shorts(g));
  const int64_t steps = steps_of(g.k), parts = ceil_div(g.m, kRows);
  for (int64_t i = 0; i < g.batch; ++i, c += g.m * g.n) {
    const Source left = left_of(g, a, i), right = right_of(g, b, i);
    if (has_few_rows(g) && right.k_step == 1) {
      auto* panels = static_cast<int32_t*>(workspace);
      pack_panels(left, 0, g.m, 0, g.k, steps * kPairs, panels);
      parallel_for(ceil_div(g.n, kFewColumns), few_cycles(g),
                   [&](int64_t strip) { multiply_few_turned(g, panels, right, c, strip * kFewColumns); });
      continue;
    }
    if (packs_rows(g))
      parallel_for(parts, g.m * g.k / 8, [&](int64_t part) {
        const int64_t r = part * kRows;
        pack_tiles(left, r, min64(kRows, g.m - r), 0, g.k, rows + r * steps * kStep);
      });
    const Rows all{left, packs_rows(g) ? rows : nullptr, steps};
    if (has_few_rows(g))
      parallel_for(ceil_div(g.n, kFewColumns), few_cycles(g),
                   [&](int64_t strip) { multiply_few(g, all, right, c, strip * kFewColumns); });
    else
      multiply(g, all, right, c, rest);
  }
}

}  // namespace

const GemmBf16Way gemm_by_tiles = {workspace, run};
#else
const GemmBf16Way gemm_by_tiles = {};
#endif

}  // namespace dlcore::DLCORE_ISA
#endif
