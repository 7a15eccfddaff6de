// Products of many rows: both operands packed, B for all threads.
#include "base/parallel.h"
#include "kernels/cpu/isa/gemm_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kGroup = 128 / kPanel;  // panels packed together: 512 bytes of each row of B
constexpr int64_t kTileFloats = kTileRows * kReach + W;
constexpr int64_t kFewColumns = 256, kSecondLevel = 100000;

// Rows of Aᵀ, k of them a_col apart, their elements r0 … r0 + count: tiles of `rows`, written W at a time where they
// can be read so, which the next k overwrites. Rows of Aᵀ lie far apart: four of them are read for all tiles.
void pack_columns(const float* src, int64_t a_col, int64_t readable, int64_t count, int64_t rows, int64_t k,
                  int64_t tile, float* dst) {
  const int64_t whole = min64(count / rows, readable < W ? 0 : (readable - W) / rows + 1);
  int64_t p = 0;
  for (; p + 4 <= k; p += 4) {
    const float* from = src + p * a_col;
    float* to = dst + p * rows;
    for (int64_t t = 0; t < whole; ++t, from += rows, to += tile) {
      const VF v0 = load(from), v1 = load(from + a_col), v2 = load(from + 2 * a_col), v3 = load(from + 3 * a_col);
      store(to, v0);
      store(to + rows, v1);
      store(to + 2 * rows, v2);
      store(to + 3 * rows, v3);
    }
  }
  for (; p < k; ++p)
    for (int64_t t = 0; t < whole; ++t) store(dst + t * tile + p * rows, load(src + p * a_col + t * rows));
  for (int64_t t = whole; t * rows < count; ++t) {
    const int64_t height = min64(rows, count - t * rows);
    for (p = 0; p < k; ++p)
      store(dst + t * tile + p * height, load_partial(src + p * a_col + t * rows, static_cast<int>(height)));
  }
}

// Rows r0 … of A, `count` of them in tiles of `rows`, k0 … k0 + k: [tile][k][rows of the tile], tiles `tile` floats
// apart: W more than they hold.
void pack_rows(const GemmArgs& g, const float* a, int64_t r0, int64_t count, int64_t rows, int64_t k0, int64_t k,
               int64_t tile, float* dst) {
  if (g.a_col != 1) return pack_columns(a + k0 * g.a_col + r0, g.a_col, g.m - r0, count, rows, k, tile, dst);
  for (int64_t r = 0; r < count; r += rows, dst += tile) {
    const int64_t height = min64(rows, count - r);
    pack_transposed({a + (r0 + r) * g.a_row + k0, g.a_row, height, k, 1, 0, dst, height});
  }
}

// Rows of B, `width` columns of them, into panels of `columns` columns, panel_size floats apart.
void pack_rows_of_b(const float* b, int64_t ldb, int64_t width, int64_t rows, int64_t columns, int64_t panel_size,
                    float* dst) {
  constexpr int64_t kAhead = 12;  // rows far from one another are not foreseen by the processor
  const bool far = rows > kAhead && ldb >= 1024;
  const int64_t whole = width / columns, rest = width % columns;
  for (int64_t p = 0; p < rows; ++p, b += ldb) {
    float* to = dst + p * columns;
    if (far) {
      for (int64_t j = 0; j < width; j += 16) __builtin_prefetch(b + kAhead * ldb + j, 0, 2);
    }
    for (int64_t j = 0; j < whole; ++j, to += panel_size)
      for (int64_t v = 0; v < columns; v += W) store(to + v, load(b + j * columns + v));
    for (int64_t v = 0; rest && v < columns; v += W) {
      const int64_t left = rest - v;
      const int lanes = left >= W ? W : left > 0 ? static_cast<int>(left) : 0;
      store(to + v, lanes ? load_partial(b + whole * columns + v, lanes) : VF{});
    }
  }
}

}  // namespace

void pack_panels(const GemmArgs& g, const float* b, int64_t first, int64_t width, int64_t k0, int64_t k,
                 int64_t columns, float* dst) {
  if (g.b_transposed) {
    for (int64_t j = 0; j < width; j += columns, dst += k * columns)
      pack_transposed({b + (first + j) * g.ldb + k0, g.ldb, min64(columns, width - j), k, 1, 0, dst, columns});
    return;
  }
  pack_rows_of_b(b + k0 * g.ldb + first, g.ldb, width, k, columns, k * columns, dst);
}

size_t shared_workspace(const GemmArgs& g) {
  if (g.ready) return 0;
  return static_cast<size_t>(ceil_div(min64(g.n, kBlockN), kPanel) * kPanel * min64(g.k, kReach)) * sizeof(float);
}

namespace {

constexpr int64_t kStripColumns = kGroup * kPanel;

// All of A for the strips, in tiles as even as can be.
struct StripTiles {
  int64_t m, k, count = ceil_div(m, kTileRows), floats = kTileRows * k + W;

  int64_t row(int64_t t) const { return m * t / count; }
  int64_t height(int64_t t) const { return row(t + 1) - row(t); }
  int64_t all() const { return count * floats; }
};

// What a tile has summed over a piece of k goes to C or, with `adds`, is added to it.
DLCORE_INLINE void put_sums(const float* sums, int64_t rows, int64_t n, float* c, int64_t c_row, bool adds,
                            const float* bias, bool relu) {
  for (int64_t r = 0; r < rows; ++r, sums += kStripColumns, c += c_row) {
    for (int64_t j = 0; j < n; j += W) {
      const int lanes = n - j < W ? static_cast<int>(n - j) : W;
      VF x = load(sums + j);
      if (adds) x = load_partial(c + j, lanes) + x;
      if (bias) x = x + load_partial(bias + j, lanes);
      store_partial(c + j, bias && relu ? rectified(x) : x, lanes);
    }
  }
}

// One strip of columns of one product, block of k by block. The next block is packed between the tiles of this one: its
// lines are asked for before a tile, and there after it. The sums wait for the next block beside one another: rows of C
// may share few lines of the cache.
void run_strip(const GemmArgs& g, const StripTiles& tiles, const float* a, const float* b, const float* bias, float* c,
               int64_t n) {
  const int64_t block_k = even(g.piece(), kStripDepth), pieces = tiles.count * ceil_div(n, kPanel);
  float packed[2][kStripColumns * kStripDepth], sums[kStripRows * kStripColumns];
  pack_panels(g, b, 0, n, 0, min64(block_k, g.k), kPanel, packed[0]);
  for (int64_t k0 = 0, turn = 0; k0 < g.k; k0 += block_k, turn ^= 1) {
    const int64_t k = min64(block_k, g.k - k0), next = min64(block_k, g.k - k0 - k);
    const bool begins = k0 % g.piece() == 0, ends = next == 0 || (k0 + k) % g.piece() == 0;
    int64_t piece = 0;
    for (int64_t j = 0; j < n; j += kPanel) {
      for (int64_t t = 0; t < tiles.count; ++t, ++piece) {
        const int64_t from = next * piece / pieces, to = next * (piece + 1) / pieces, rows = tiles.height(t);
        for (int64_t p = from; p < to; ++p)
          for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(b + (k0 + k + p) * g.ldb + i, 0, 3);
        const float *at = a + t * tiles.floats + k0 * rows, *panel = packed[turn] + j * k;
        const float* add = bias && next == 0 ? bias + j : nullptr;
        float *result = c + tiles.row(t) * g.n + j, *sum = sums + tiles.row(t) * kStripColumns + j;
        const bool straight = ends && k0 + k <= g.piece() && n - j >= kPanel;
        if (n - j >= kPanel) {
          run_packed(static_cast<int>(rows), {.a = at,
                                              .b = panel,
                                              .k = k,
                                              .from = begins ? nullptr : sum,
                                              .from_row = kStripColumns,
                                              .c = straight ? result : sum,
                                              .c_row = straight ? g.n : kStripColumns,
                                              .bias = straight ? add : nullptr,
                                              .relu = g.relu});
        } else {
          const Segment segment{at, panel, k};
          run_tile(static_cast<int>(rows), n - j, {&segment, 1, 1, rows, kPanel, sum, kStripColumns, !begins});
        }
        if (ends && !straight) put_sums(sum, rows, min64(kPanel, n - j), result, g.n, k0 + k > g.piece(), add, g.relu);
        pack_rows_of_b(b + (k0 + k + from) * g.ldb, g.ldb, n, to - from, kPanel, next * kPanel,
                       packed[turn ^ 1] + from * kPanel);
      }
    }
  }
}

}  // namespace

size_t strips_workspace(const GemmArgs& g) {
  return static_cast<size_t>(g.batch * StripTiles{g.m, g.k}.all()) * sizeof(float);
}

void run_strips(const GemmArgs& g) {
  const StripTiles tiles{g.m, g.k};
  float* packed = static_cast<float*>(g.workspace);
  parallel_for(g.batch * tiles.count, g.batch * g.m * g.k, [&](int64_t task) {
    const int64_t i = task / tiles.count, t = task % tiles.count;
    pack_rows(g, g.a + g.a_offset[i], tiles.row(t), tiles.height(t), tiles.height(t), 0, g.k, tiles.floats,
              packed + i * tiles.all() + t * tiles.floats);
  });
  const int64_t strips = ceil_div(g.n, kStripColumns), tasks = g.batch * strips, chunks = min64(tasks, 64);
  parallel_for(chunks, g.batch * max64(g.m * g.n * g.k / W, g.n * g.k / 7), [&](int64_t chunk) {
    for (int64_t task = chunk * tasks / chunks; task < (chunk + 1) * tasks / chunks; ++task) {
      const int64_t i = task / strips, j = task % strips * kStripColumns, n = min64(kStripColumns, g.n - j);
      float* c = g.c + i * g.m * g.n + j;
      run_strip(g, tiles, packed + i * tiles.all(), g.b + g.b_offset[i] + j, bias_at(g, j), c, n);
      finish(g, c, g.m, n);
    }
  });
}

namespace {

// Rows of A, in tiles of `rows`: packed, or each along k and `row` apart, where they stand.
struct Rows {
  const float* data;
  int64_t tile, row, rows, count;  // from tile to tile; packed: row is 1

  bool packed() const { return row == 1; }
  int64_t height(int64_t t) const { return min64(rows, count - t * rows); }
  int64_t step(int64_t t) const { return packed() ? height(t) : 1; }
};

// Sums of a product in memory.
struct Sums {
  float* at;
  int64_t row;
};

// What is asked for while tiles are multiplied.
struct Wanted {
  Ahead a, c;
};

// C[rows, n] (+)= A·B for k of the reduction, B in panels, `c` column n0 of C, `a` the beginning of A's rows. It goes
// over k in stretches, which are the pieces of the product where its chains begin anew.
struct Sweep {
  const GemmArgs& g;
  const float* a;
  float* c;
  const float* panels;
  int64_t panel_size, n0, n, k;
  bool accumulate, last;
  int64_t stretch = g.anew() ? g.chain : even(k, kDepth), whole = n / kPanel * kPanel;

  const float* bias(int64_t j, int64_t end) const { return last && end == k ? bias_at(g, n0 + j) : nullptr; }
  const float* panel(int64_t j, int64_t k0) const { return panels + j / kPanel * panel_size + k0 * kPanel; }
  static const float* at(const Rows& rows, int64_t t, int64_t k0) {
    return rows.data + t * rows.tile + k0 * rows.step(t);
  }

  // `count` tiles from t on, alike in height, by the panel of column j or, `beside`, one by all whole panels, for the
  // stretch of k from k0 on.
  void tiles(const Rows& rows, int64_t t, int64_t count, bool beside, int64_t j, int64_t k0, Sums from, Sums to,
             const Wanted& wanted) const {
    const int64_t depth = min64(stretch, k - k0);
    const PackedArgs args{.a = at(rows, t, k0),
                          .a_next = rows.tile,
                          .b = panel(j, k0),
                          .b_next = beside ? panel_size : 0,
                          .tiles = count,
                          .k = depth,
                          .from = from.at,
                          .from_row = from.row,
                          .c = to.at,
                          .c_row = to.row,
                          .bias = bias(j, k0 + depth),
                          .relu = g.relu,
                          .adds = g.anew(),
                          .a_row = rows.row,
                          .first = wanted.a,
                          .then = wanted.c};
    (rows.packed() ? run_packed : run_in_place)(static_cast<int>(rows.height(t)), args);
  }
  // One tile by what the whole panels leave.
  void rest(const Rows& rows, int64_t t, float* to) const {
    for (int64_t k0 = 0; whole < n && k0 < k; k0 += stretch) {
      const int64_t depth = min64(stretch, k - k0);
      const Segment segment{at(rows, t, k0), panel(whole, k0), depth};
      run_tile(static_cast<int>(rows.height(t)), n - whole,
               {&segment, 1, rows.row, rows.step(t), kPanel, to + whole, g.n, accumulate || k0 > 0,
                bias(whole, k0 + depth), g.relu, g.anew()});
    }
  }
  // Tile t, which is row r of C; rows up to `end` follow it.
  void by_rows(const Rows& rows, int64_t t, int64_t r, int64_t end) const {
    float* to = c + r * g.n;
    Wanted wanted{a_ahead(r + (rows.packed() ? rows.count : rows.rows), rows.rows, end),
                  c_ahead(r + rows.rows, rows.rows, end, 0, n)};
    for (int64_t k0 = 0; whole > 0 && k0 < k; k0 += stretch, wanted = {})
      tiles(rows, t, whole / kPanel, true, 0, k0, {accumulate || k0 > 0 ? to : nullptr, g.n}, {to, g.n}, wanted);
    rest(rows, t, to);
  }
  // All tiles, from row r on.
  void by_panels(const Rows& rows, int64_t r, int64_t end) const {
    float sums[kTilesABlock * kTileRows * kPanel], *to = c + r * g.n;
    const int64_t alike = rows.count / rows.rows;
    for (int64_t j = 0; j < whole; j += kPanel) {
      for (int64_t k0 = 0; k0 < k; k0 += stretch) {
        const Sums here{sums, kPanel}, all{to + j, g.n}, none{nullptr, 0};
        tiles(rows, 0, alike, false, j, k0,
              k0           ? here
              : accumulate ? all
                           : none,
              k0 + stretch >= k ? all : here, k0 > 0 ? Wanted() : panel_ahead(rows, r, end, j));
      }
    }
    for (int64_t t = 0; t < rows.count / rows.rows; ++t) rest(rows, t, to + t * rows.rows * g.n);
    if (alike * rows.rows < rows.count) by_rows(rows, alike, r + alike * rows.rows, 0);
  }

 private:
  // Rows of A and of C, as far as there are. Columns of A lie beside one another, those of the next tiles with these.
  Ahead a_ahead(int64_t r, int64_t rows, int64_t end) const {
    return g.a_col == 1 && r < end ? Ahead(a + r * g.a_row, g.a_row, min64(rows, end - r), k) : Ahead();
  }
  Ahead c_ahead(int64_t r, int64_t rows, int64_t end, int64_t j, int64_t width) const {
    return r < end ? Ahead(c + r * g.n + j, g.n, min64(rows, end - r), width) : Ahead();
  }
  // While a block goes by the panel of column j: its share of the next block of A and, a group being lines of several
  // panels, of the next panels of C.
  Wanted panel_ahead(const Rows& rows, int64_t r, int64_t end, int64_t j) const {
    constexpr int64_t kShares = Ahead::kGroup / kPanel;
    const auto share = [&](int64_t i, int64_t shares, auto ahead) {
      const int64_t first = rows.count * i / shares, last = rows.count * (i + 1) / shares;
      return last > first ? ahead(first, last - first) : Ahead();
    };
    const int64_t next = (j / Ahead::kGroup + 1) * Ahead::kGroup;
    return {share(j / kPanel, whole / kPanel,
                  [&](int64_t first, int64_t count) { return a_ahead(r + rows.count + first, count, end); }),
            share(j / kPanel % kShares, kShares, [&](int64_t first, int64_t count) {
              return next < n ? c_ahead(r + first, count, end, next, Ahead::kGroup)
                              : c_ahead(r + rows.count + first, count, end, 0, Ahead::kGroup);
            })};
  }
};

}  // namespace

void run_rows_alone(const GemmArgs& g, int64_t first, int64_t count, int64_t cols, bool accumulate) {
  float block[kTilesABlock * kTileFloats], panel[kPanel * kDepth];
  const int64_t rows = even(count, kTileRows), block_k = even(g.k, kDepth);
  for (int64_t k0 = 0; k0 < g.k; k0 += block_k) {
    const int64_t k = min64(block_k, g.k - k0);
    pack_rows(g, g.a, first, count, rows, k0, k, kTileFloats, block);
    for (int64_t j = 0; j < cols; j += kPanel) {
      const int64_t n = min64(kPanel, cols - j);
      pack_panels(g, g.b, j, n, k0, k, kPanel, panel);
      const Sweep sweep{g, nullptr, g.c + j, panel, 0, j, n, k, accumulate || k0 > 0, false};
      sweep.by_panels({block, kTileFloats, 1, rows, count}, first, 0);
    }
  }
}

void run_shared(const GemmArgs& g) {
  float* packed = static_cast<float*>(g.workspace);
  const int64_t tiles = ceil_div(g.m, kTileRows), rows = ceil_div(g.m, tiles);
  const int64_t block_k = g.anew() ? g.chain * max64(1, kReach / g.chain) : even(g.k, kReach);
  const int64_t block_n = ceil_div(even(g.n, kBlockN), kPanel) * kPanel;
  // Whole rows of C, unless a block of B is too large for a narrow tile to take its panels from the second-level cache
  // over and over. Rows of A are read where they stand, except where many panels repay packing them, or where more of
  // them than the first cache has ways put their elements into the same few lines.
  const bool by_rows = kTilesABlock == 1 || min64(g.k, block_k) * min64(g.n, block_n) <= kSecondLevel;
  const bool crowded = kTileRows > 8 && g.a_row % 1024 == 0;
  const bool in_place = g.a_col == 1 && !crowded && (by_rows || (g.a_row % 1024 != 0 && g.n <= kFewColumns));
  // Few rows: small blocks, for several threads; a multiple of four pieces, which two and four share evenly.
  const int64_t block_tiles = min64(kTilesABlock, ceil_div(tiles, 4));
  const int64_t pieces = ceil_div(tiles, max64(ceil_div(tiles, 32), block_tiles));
  const int64_t chunk_tiles = ceil_div(tiles, ceil_div(pieces, 4) * 4), chunks = ceil_div(tiles, chunk_tiles);
  const int64_t tiles_a_block = min64(block_tiles, chunk_tiles);
  for (int64_t i = 0; i < g.batch; ++i) {
    const float* a = g.a + g.a_offset[i];
    const float* b = g.b + g.b_offset[i];
    float* c = g.c + i * g.m * g.n;
    for (int64_t n0 = 0; n0 < g.n; n0 += block_n) {
      const int64_t n = min64(block_n, g.n - n0);
      for (int64_t k0 = 0; k0 < g.k; k0 += block_k) {
        const int64_t k = min64(block_k, g.k - k0);
        if (!g.ready)
          parallel_for(ceil_div(n, kGroup * kPanel), n * k / 4, [&](int64_t group) {
            const int64_t j = group * kGroup * kPanel;
            pack_panels(g, b, n0 + j, min64(kGroup * kPanel, n - j), k0, k, kPanel, packed + j * k);
          });
        const bool last = k0 + k == g.k;
        const Sweep sweep{g,
                          a + k0 * g.a_col,
                          c + n0,
                          g.ready ? g.ready + n0 * g.k + k0 * kPanel : packed,
                          (g.ready ? g.k : k) * kPanel,
                          n0,
                          n,
                          k,
                          k0 > 0,
                          last};
        parallel_for(chunks, g.m * n * k / W, [&](int64_t chunk) {
          float block[kTilesABlock * kTileFloats];
          const int64_t end = min64(g.m, (chunk + 1) * chunk_tiles * rows);
          for (int64_t r0 = chunk * chunk_tiles * rows; r0 < end; r0 += tiles_a_block * rows) {
            const int64_t count = min64(tiles_a_block * rows, end - r0);
            Rows tiles_of_a{a + r0 * g.a_row + k0, rows * g.a_row, g.a_row, rows, count};
            if (!in_place) {
              pack_rows(g, a, r0, count, rows, k0, k, kTileFloats, block);
              tiles_of_a = {block, kTileFloats, 1, rows, count};
            }
            if (by_rows) {
              for (int64_t t = 0; t * rows < count; ++t) sweep.by_rows(tiles_of_a, t, r0 + t * rows, end);
            } else {
              sweep.by_panels(tiles_of_a, r0, end);
            }
            if (last) finish(g, c + r0 * g.n + n0, count, n);
          }
        });
      }
    }
  }
}

}  // namespace dlcore::DLCORE_ISA
