// Matrix products. Blocks of k are the pieces in which an output's chain goes on, or it goes on from block to block: no
// blocking changes a bit.
#include "kernels/cpu/gemm.h"

#include "base/parallel.h"
#include "kernels/chain.h"
#include "kernels/cpu/isa/gemm_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kStrip = 128;      // columns of a task that does not share B
constexpr int64_t kAlone = 1 << 18;  // multiplications that one thread does as fast as several

#ifdef DLCORE_WIDE
// Both operands are read where they stand: B while a block of it stays in the second-level cache, unless its rows or
// A's are a multiple of 4 KB apart, which puts them all into the same few lines of the first.
bool in_place(const GemmArgs& g) {
  const bool crowded = g.n % 1024 == 0 || (g.a_col == 1 && g.a_row % 1024 == 0);
  return !crowded && g.k * g.n <= 600000 && (g.n <= 128 || g.k >= 256);
}

// Packing B pays when many rows use it: A's columns are then packed as well, its rows are not.
bool shares_b(const GemmArgs& g) {
  if (!g.b_transposed && in_place(g) && g.m < 256) return false;
  return g.m >= (g.b_transposed ? 96 : 64) && g.n >= kPanel && g.k >= 32 && g.m * g.n * g.k >= int64_t{1} << 20;
}

// A dozen rows or two by a B from beyond the second-level cache would fetch each line of it again for each tile.
bool in_strips(const GemmArgs& g) {
  return g.m > 6 && g.m < kStripRows && !g.b_transposed && !g.ready && g.k * g.n >= (g.m < 16 ? 1500000 : 1000000);
}

// One row or two go by rows of a B that comes from beyond the second-level cache: they follow each other in memory.
bool by_rows(const GemmArgs& g) { return !g.b_transposed && g.m <= 2 && g.k * g.n >= (g.m == 1 ? 500000 : 3000000); }
#else
// The narrow tile reads B more often, and wants its panels side by side in the first-level cache.
bool shares_b(const GemmArgs& g) {
  if (g.n < kPanel || g.k < 32 || g.m * g.n * g.k < int64_t{1} << 20) return false;
  return g.m >= (g.b_transposed ? 96 : 64);
}

// One row or two go by rows of B; a dozen and more by strips of it, packed. Rows of B far from one another put a column
// of it into few lines of the caches, so that fewer rows repay packing.
bool by_rows(const GemmArgs& g) { return !g.b_transposed && g.m <= 2 && g.k * g.n >= 30000; }
bool in_strips(const GemmArgs& g) {
  const bool few = g.m > (g.n < 2048 ? 6 : 2) && g.m < kStripRows;
  return few && !g.b_transposed && !g.ready && g.k >= 32 && g.k * g.n >= 250000;
}
#endif

// Few rows wait for B, of which a thread gets some 7 numbers a cycle.
int64_t cycles(const GemmArgs& g) {
  const int64_t products = g.batch * g.m * g.n * (g.k + 1) / W;
  return g.batch == 1 ? max64(products, g.n * g.k / 7) : products;
}

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

// Few columns leave lanes of a vector empty, so rows become the lanes: as they lie where A stands transposed, and
// transposed in registers for so few columns that this costs less than it spares.
bool turned(const GemmArgs& g) {
  if (g.m < 2 * W) return false;
  if (g.a_row == 1) return g.n < 2 * W && 4 * g.n <= 3 * ceil_div(g.n, W) * W;
  return g.n <= (W == 16 ? 6 : 4);
}

void run_turned(const GemmArgs& g, const float* a, const float* b, float* c, int64_t m, int64_t n) {
  constexpr int64_t kColumns = 128;
  float sums[2 * W * kColumns];  // of the product's transpose
  const int64_t b_row = g.b_transposed ? g.ldb : 1, b_step = g.b_transposed ? 1 : g.ldb;
  for (int64_t m0 = 0; m0 < m; m0 += kColumns) {
    const int64_t width = min64(kColumns, m - m0);
    if (g.a_row == 1) {
      const int64_t rows = even(n, kTileRows);
      for (int64_t r0 = 0; r0 < n; r0 += rows)
        for_pieces(g.k, g.piece(), [&](int64_t k0, int64_t end) {
          const Segment segment{b + r0 * b_row + k0 * b_step, a + k0 * g.a_col + m0, end - k0};
          run_tile(static_cast<int>(min64(rows, n - r0)), width,
                   {&segment, 1, b_row, b_step, g.a_col, sums + r0 * kColumns, kColumns, k0 > 0, nullptr, false, true});
        });
    } else {
      few_rows_by_transposed(static_cast<int>(n),
                             {b, b_row, b_step, a + m0 * g.a_row, g.a_row, sums, kColumns, width, g.k, g.piece()});
    }
    transpose(sums, kColumns, n, width, c + m0 * g.n, g.n);
  }
}

// A by broadcast from its place, B from its place or, transposed, a small panel at a time.
void run_tiles(const GemmArgs& g, const float* a, const float* b, const float* bias, float* c, int64_t m, int64_t n) {
  const int64_t tiles = ceil_div(m, kTileRows), rows = ceil_div(m, tiles);
  const bool anew = g.anew();
  int64_t panel = m <= kTileRows ? n : kPanel;
  if (g.b_transposed) panel = wide_panel(static_cast<int>(rows));
  if (g.b_transposed && anew) panel = min64(panel, kPanelFloats / kLongestChain);
  const int64_t block_k = anew ? g.chain : even(g.k, g.b_transposed ? kPanelFloats / panel : 512);
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
        ask_for_rows(c + (r0 + rows) * g.n + j, g.n, min64(rows, m - r0 - rows), min64(width, kPanel));
        run_tile(static_cast<int>(min64(rows, m - r0)), width,
                 {&segment, 1, g.a_row, g.a_col, b_row, c + r0 * g.n + j, g.n, k0 > 0,
                  bias && k0 + k == g.k ? bias + j : nullptr, g.relu, anew});
      }
      k0 += k;
    } while (k0 < g.k);
  }
}

// A part of one product.
void run_part(const GemmArgs& g, const float* a, const float* b, const float* bias, float* c, int64_t m, int64_t n) {
  const auto few_rows = [&](auto run) {
    run(static_cast<int>(m), FewRowsArgs{a, g.a_row, g.a_col, b, g.ldb, c, g.n, n, g.k, g.piece()});
  };
  if (g.b_transposed && m <= kFewRows)
    few_rows(few_rows_by_transposed);
  else if (by_rows(g))
    few_rows(few_rows_by_rows);
  else if (turned(g))
    run_turned(g, a, b, c, m, n);
  else
    return run_tiles(g, a, b, bias, c, m, n);
  if (bias) add_bias(g, bias, c, m, n);
}

// Columns of a task that goes by rows of B: as many as leave work for all threads, since what follows in memory comes
// sooner; their sums stay in the first-level cache. Each column's chain is the same however many stand beside it.
int64_t long_strip(const GemmArgs& g) {
  const int64_t tasks = num_threads() == 1 ? 1 : 2 * num_threads();
  return min64(kLongRow, max64(512, ceil_div(ceil_div(g.n, tasks), kPanel) * kPanel));
}

void run_parts(const GemmArgs& g) {
  // Rows are only divided where there would be too few tasks otherwise: each part of them packs its own transposed B,
  // which is rather cut into narrow strips.
  const bool narrow = g.b_transposed && g.m > kFewRows && g.batch * ceil_div(g.n, kStrip) < 8;
  const int64_t strip = by_rows(g) ? long_strip(g) : g.batch > 8 && g.n <= 512 ? g.n : narrow ? kPanel : kStrip;
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
    pack_panels(g, g.b, panel * columns, min64(columns, g.n - panel * columns), 0, g.k, columns,
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
        const int64_t cols = min64(columns, g.n - j);
        float* c = g.c + r0 * g.n + j;
        ask_for_rows(c + rows * g.n, g.n, min64(rows, g.m - r0 - rows), min64(cols, kPanel));
        for_pieces(g.k, g.piece(), [&](int64_t k0, int64_t end) {
          const Segment segment{a + r0 * g.a_row + k0 * g.a_col, g.ready + j * g.k + k0 * columns, end - k0};
          run_tile(static_cast<int>(min64(rows, g.m - r0)), cols,
                   {&segment, 1, g.a_row, g.a_col, columns, c, g.n, k0 > 0, end == g.k ? bias_at(g, j) : nullptr,
                    g.relu, true});
        });
      }
    }
    finish(g, g.c + from * columns, g.m, min64(g.n, to * columns) - from * columns);
  });
}

size_t workspace(const GemmArgs& g) {
  return shares_b(g) ? shared_workspace(g) : in_strips(g) ? strips_workspace(g) : 0;
}

void run(const GemmArgs& g) {
  if (g.m == 0 || g.n == 0 || g.batch == 0) return;
  if (shares_b(g))
    run_shared(g);
  else if (g.ready)
    run_ready(g);
  else if (in_strips(g))
    run_strips(g);
  else
    run_parts(g);
}

}  // namespace

const GemmTable gemm_table = {ready_panel, pack_ready, workspace, run};

}  // namespace dlcore::DLCORE_ISA
