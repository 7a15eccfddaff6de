// Matrix products. Between blocks of k the chain of each output goes on from C, so no blocking changes a bit.
#include "kernels/cpu/gemm.h"

#include "base/parallel.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kBlockN = 992;        // a packed block of B: 384 × 992, 1.5 MB
constexpr int64_t kPanelFloats = 8192;  // a panel packed on the stack: 32 KB
constexpr int64_t kStrip = 128;         // columns of a task that does not share B
constexpr int64_t kAlone = 1 << 18;     // multiplications that one thread does as fast as several

// Both operands are read where they stand: B while a block of it stays in the second-level cache, unless its rows or
// A's are a multiple of 4 KB apart, which puts them all into the same few lines of the first.
bool in_place(const GemmArgs& g) {
  const bool crowded = g.n % 1024 == 0 || (g.a_col == 1 && g.a_row % 1024 == 0);
  return !crowded && g.k * g.n <= 600000 && (g.n <= 128 || g.k >= 256);
}

// Packing B pays when many rows use it. A narrow transposed B is packed as often as there are parts of the rows.
bool shares_b(const GemmArgs& g) {
  if (g.b_transposed ? g.m >= 2048 && g.n <= 128 : in_place(g)) return false;
  return g.m >= 96 && g.n >= kPanel && g.k >= 32 && g.m * g.n * g.k >= int64_t{1} << 20;
}

// Few rows wait for B, of which a thread gets some 7 numbers a cycle.
int64_t cycles(const GemmArgs& g) {
  const int64_t products = g.batch * g.m * g.n * (g.k + 1) / W;
  return g.batch == 1 ? max64(products, g.n * g.k / 7) : products;
}

// A block of C is done: its epilogue, while it is in the cache.
DLCORE_INLINE void finish(const GemmArgs& g, const float* c, int64_t rows, int64_t cols) {
  if (!g.epilogue) return;
  if (cols == g.n) {
    g.epilogue->range(*g.epilogue, c - g.c, rows * cols);
  } else {
    for (int64_t r = 0; r < rows; ++r) g.epilogue->range(*g.epilogue, c - g.c + r * g.n, cols);
  }
}

const float* bias_at(const GemmArgs& g, int64_t column) { return g.bias ? g.bias + column : nullptr; }

void add_bias(const GemmArgs& g, const float* bias, float* c, int64_t m, int64_t n) {
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t j = 0; j < n; j += W) {
      const int lanes = n - j < W ? static_cast<int>(n - j) : W;
      float* at = c + r * g.n + j;
      VF x = lanes == W ? load(at) + load(bias + j) : load_partial(at, lanes) + load_partial(bias + j, lanes);
      if (g.relu) x = rectified(x);
      if (lanes == W)
        store(at, x);
      else
        store_partial(at, x, lanes);
    }
  }
}

// Columns first … first + width of B, rows k0 … k0 + k, as a panel [k][columns], zeros to the right.
void pack_panel(const GemmArgs& g, const float* b, int64_t first, int64_t width, int64_t k0, int64_t k, int64_t columns,
                float* dst) {
  if (g.b_transposed) {
    pack_transposed({b + first * g.ldb + k0, g.ldb, width, k, 1, 0, dst, columns});
    return;
  }
  const float* src = b + k0 * g.ldb + first;
  for (int64_t v = 0; v < columns; v += W) {
    const int64_t left = width - v;
    if (left >= W) {
      for (int64_t p = 0; p < k; ++p) store(dst + p * columns + v, load(src + p * g.ldb + v));
    } else {
      const int lanes = left > 0 ? static_cast<int>(left) : 0;
      for (int64_t p = 0; p < k; ++p)
        store(dst + p * columns + v, lanes ? load_partial(src + p * g.ldb + v, lanes) : VF{});
    }
  }
}

// Many rows: B is packed block by block, by all threads, then swept by tiles of rows, each packing its part of A.
void run_shared(const GemmArgs& g) {
  float* packed = static_cast<float*>(g.workspace);
  const int64_t tiles = ceil_div(g.m, kTileRows), rows = ceil_div(g.m, tiles);
  const int64_t block_k = even(g.k, kBlockK);
  const int64_t tiles_a_chunk = ceil_div(tiles, 32);
  for (int64_t i = 0; i < g.batch; ++i) {
    const float* a = g.a + g.a_offset[i];
    const float* b = g.b + g.b_offset[i];
    float* c = g.c + i * g.m * g.n;
    for (int64_t n0 = 0; n0 < g.n; n0 += kBlockN) {
      const int64_t n = min64(kBlockN, g.n - n0);
      for (int64_t k0 = 0; k0 < g.k; k0 += block_k) {
        const int64_t k = min64(block_k, g.k - k0);
        if (!g.ready)
          parallel_for(ceil_div(n, kPanel), n * k / 4, [&](int64_t panel) {
            pack_panel(g, b, n0 + panel * kPanel, min64(kPanel, n - panel * kPanel), k0, k, kPanel,
                       packed + panel * k * kPanel);
          });
        const float* panels = g.ready ? g.ready + n0 * g.k + k0 * kPanel : packed;
        const int64_t panel_size = (g.ready ? g.k : k) * kPanel;
        parallel_for(ceil_div(tiles, tiles_a_chunk), g.m * n * k / W, [&](int64_t chunk) {
          float a_panel[kTileRows * kBlockK + W];
          const int64_t last = min64(tiles, (chunk + 1) * tiles_a_chunk);
          for (int64_t tile = chunk * tiles_a_chunk; tile < last && tile * rows < g.m; ++tile) {
            const int64_t r0 = tile * rows, r = min64(rows, g.m - r0);
            const float* src = a + r0 * g.a_row + k0 * g.a_col;
            if (g.a_col == 1) {
              pack_transposed({src, g.a_row, r, k, 1, 0, a_panel, r});
            } else {
              for (int64_t p = 0; p < k; ++p)
                store(a_panel + p * r, load_partial(src + p * g.a_col, static_cast<int>(r)));
            }
            for (int64_t j = 0; j < n; j += kPanel) {
              const Segment segment{a_panel, panels + j / kPanel * panel_size, k};
              run_tile(static_cast<int>(r), min64(kPanel, n - j),
                       {&segment, 1, 1, r, kPanel, c + r0 * g.n + n0 + j, g.n, k0 > 0,
                        k0 + k == g.k ? bias_at(g, n0 + j) : nullptr, g.relu});
            }
            if (k0 + k == g.k) finish(g, c + r0 * g.n + n0, r, n);
          }
        });
      }
    }
  }
}

// A part of one product: A by broadcast from its place, B from its place or, transposed, a small panel at a time.
void run_part(const GemmArgs& g, const float* a, const float* b, const float* bias, float* c, int64_t m, int64_t n) {
  if (g.b_transposed && m <= kFewRows) {
    few_rows_by_transposed(static_cast<int>(m), {a, g.a_row, g.a_col, b, g.ldb, c, g.n, n, g.k});
    if (bias) add_bias(g, bias, c, m, n);
    return;
  }
  const int64_t tiles = ceil_div(m, kTileRows), rows = ceil_div(m, tiles);
  const int64_t panel = g.b_transposed ? wide_panel(static_cast<int>(rows)) : (m <= kTileRows ? n : kPanel);
  const int64_t block_k = g.b_transposed ? even(g.k, kPanelFloats / panel) : even(g.k, 512);
  // A large B comes from afar, and the next columns of it are asked for ahead.
  const bool ahead = !g.b_transposed && g.k * g.n >= 250000;
  float packed[kPanelFloats];
  for (int64_t j = 0; j < n; j += panel) {
    const int64_t width = min64(panel, n - j);
    int64_t k0 = 0;
    do {
      const int64_t k = min64(block_k, g.k - k0);
      Segment segment{nullptr, b + k0 * g.ldb + j, k};
      int64_t b_row = g.ldb;
      if (g.b_transposed) {
        b_row = ceil_div(width, W) * W;
        pack_transposed({b + j * g.ldb + k0, g.ldb, width, k, 1, 0, packed, b_row});
        segment.b = packed;
      }
      for (int64_t r0 = 0; r0 < m; r0 += rows) {
        segment.a = a + r0 * g.a_row + k0 * g.a_col;
        if (ahead && j + panel < n) {
          const float* next = segment.b + panel;
          for (int64_t p = k * r0 / m, end = k * min64(r0 + rows, m) / m; p < end; ++p) {
            __builtin_prefetch(next + p * g.ldb, 0, 2);
            __builtin_prefetch(next + p * g.ldb + 16, 0, 2);
          }
        }
        run_tile(static_cast<int>(min64(rows, m - r0)), width,
                 {&segment, 1, g.a_row, g.a_col, b_row, c + r0 * g.n + j, g.n, k0 > 0,
                  bias && k0 + k == g.k ? bias + j : nullptr, g.relu});
      }
      k0 += k;
    } while (k0 < g.k);
  }
}

void run_parts(const GemmArgs& g) {
  // Rows are only divided where there would be too few tasks otherwise: each part of them packs its own transposed B,
  // which is rather cut into narrow strips.
  const bool narrow = g.b_transposed && g.m > kFewRows && g.batch * ceil_div(g.n, kStrip) < 8;
  const int64_t strip = g.batch > 8 && g.n <= 512 ? g.n : narrow ? kPanel : kStrip;
  const int64_t across = ceil_div(g.n, strip), enough = g.m * g.n * g.k <= kAlone ? 1 : narrow ? 4 : 8;
  const int64_t part_rows =
      g.batch * across >= enough ? g.m : even(g.m, max64(4, ceil_div(ceil_div(g.m, 16), kTileRows)) * kTileRows);
  const int64_t down = ceil_div(g.m, part_rows);
  const int64_t tasks = g.batch * across * down, chunks = min64(tasks, 64);
  parallel_for(chunks, cycles(g), [&](int64_t chunk) {
    for (int64_t task = chunk * tasks / chunks; task < (chunk + 1) * tasks / chunks; ++task) {
      const int64_t i = task / (across * down), r0 = task / across % down * part_rows, j = task % across * strip;
      const int64_t rows = min64(part_rows, g.m - r0), cols = min64(strip, g.n - j);
      float* c = g.c + (i * g.m + r0) * g.n + j;
      run_part(g, g.a + g.a_offset[i] + r0 * g.a_row, g.b + g.b_offset[i] + (g.b_transposed ? j * g.ldb : j),
               bias_at(g, j), c, rows, cols);
      finish(g, c, rows, cols);
    }
  });
}

// Few rows by a B that stands packed: each panel is read once, from one end to the other. Panels narrow enough that a
// large B makes work for several threads: it comes too slowly for a tile of 32 columns to wait for its chains.
int64_t ready_panel(const GemmArgs& g) {
  if (g.m >= kTileRows) return kPanel;
  int64_t columns = wide_panel(static_cast<int>(max64(g.m, 1)));
  while (columns > kPanel && g.n < 4 * columns && g.n * g.k >= kAlone / 2) columns /= 2;
  return columns;
}

void pack_ready(const GemmArgs& g, float* ready) {
  const int64_t columns = ready_panel(g);
  parallel_for(ceil_div(g.n, columns), g.n * g.k / 2, [&](int64_t panel) {
    pack_panel(g, g.b, panel * columns, min64(columns, g.n - panel * columns), 0, g.k, columns,
               ready + panel * columns * g.k);
  });
}

void run_ready(const GemmArgs& g) {
  const int64_t columns = ready_panel(g), panels = ceil_div(g.n, columns), chunks = min64(panels, 32);
  const int64_t tiles = ceil_div(g.m, kTileRows), rows = ceil_div(g.m, tiles);
  const float* a = g.a + g.a_offset[0];
  parallel_for(chunks, cycles(g), [&](int64_t chunk) {
    const int64_t from = chunk * panels / chunks, to = (chunk + 1) * panels / chunks;
    for (int64_t panel = from; panel < to; ++panel) {
      const int64_t j = panel * columns;
      for (int64_t r0 = 0; r0 < g.m; r0 += rows) {
        const Segment segment{a + r0 * g.a_row, g.ready + j * g.k, g.k};
        run_tile(static_cast<int>(min64(rows, g.m - r0)), min64(columns, g.n - j),
                 {&segment, 1, g.a_row, g.a_col, columns, g.c + r0 * g.n + j, g.n, false, bias_at(g, j), g.relu});
      }
    }
    finish(g, g.c + from * columns, g.m, min64(g.n, to * columns) - from * columns);
  });
}

size_t workspace(const GemmArgs& g) {
  if (!shares_b(g) || g.ready) return 0;
  return static_cast<size_t>(ceil_div(min64(g.n, kBlockN), kPanel) * kPanel * min64(g.k, kBlockK)) * sizeof(float);
}

void run(const GemmArgs& g) {
  if (g.m == 0 || g.n == 0 || g.batch == 0) return;
  if (shares_b(g))
    run_shared(g);
  else if (g.ready)
    run_ready(g);
  else
    run_parts(g);
}

}  // namespace

const GemmTable gemm_table = {ready_panel, pack_ready, workspace, run};

}  // namespace dlcore::DLCORE_ISA
