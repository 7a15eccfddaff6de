// Matrix products in float64: blocks of B packed into panels, tiles of rows swept over them. The blocks are
// the pieces of k in which an output's chain of fma goes on; their sums are added.
#include "base/parallel.h"
#include "kernels/chain.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kPanel64 = 2 * WD;
constexpr int64_t kBlockK64 = kLongestChain;  // with kBlockN64 columns of B 1 MB
constexpr int64_t kBlockN64 = 512;

struct Tile64 {
  const double* a;  // element (r, p) at a + r·a_row + p·a_step
  int64_t a_row, a_step;
  const double* b;  // row p at b + p·b_row
  int64_t b_row, k;
  double* c;
  int64_t c_row;
  bool adds;  // to C
};

// R rows by two vectors, of which `first` and `second` columns count when Partial; B has all of them.
template <int R, bool Partial>
void tile(const Tile64& t, int first, int second) {
  VD acc[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    acc[r][0] = acc[r][1] = VD{};
  }
  constexpr int G = (R + 2) / 3;  // a pointer serves three rows, as in gemm_micro.cpp
  const int64_t a_row = t.a_row, a_step = t.a_step, b_row = t.b_row;
  const double* a[G];
#pragma GCC unroll 8
  for (int g = 0; g < G; ++g) a[g] = t.a + 3 * g * a_row;
  const double* b = t.b;
  for (int64_t p = t.k; p > 0; --p) {
    const VD b0 = load(b), b1 = load(b + WD);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const VD x = splat(a[r / 3][(r % 3) * a_row]);
      acc[r][0] = fma(x, b0, acc[r][0]);
      acc[r][1] = fma(x, b1, acc[r][1]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) a[g] += a_step;
    b += b_row;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    double* c = t.c + r * t.c_row;
    if (t.adds) {
      acc[r][0] = (Partial ? load_partial(c, first) : load(c)) + acc[r][0];
      acc[r][1] = (Partial ? load_partial(c + WD, second) : load(c + WD)) + acc[r][1];
    }
    if (Partial) {
      store_partial(c, acc[r][0], first);
      store_partial(c + WD, acc[r][1], second);
    } else {
      store(c, acc[r][0]);
      store(c + WD, acc[r][1]);
    }
  }
}

using TileFn = void (*)(const Tile64&, int, int);
struct Tiles {
  TileFn whole, partial;
};
template <int R>
constexpr Tiles tiles() {
  return {tile<R, false>, tile<R, true>};
}
constexpr Tiles kTiles[kTileRows] = {
    tiles<1>(), tiles<2>(), tiles<3>(), tiles<4>(),  tiles<5>(),  tiles<6>(),
#ifdef DLCORE_WIDE
    tiles<7>(), tiles<8>(), tiles<9>(), tiles<10>(), tiles<11>(), tiles<12>(), tiles<13>(), tiles<14>(),
#endif
};

void run_tile64(int rows, int64_t cols, const Tile64& t) {
  const Tiles& f = kTiles[rows - 1];
  if (cols >= kPanel64)
    f.whole(t, WD, WD);
  else
    f.partial(t, static_cast<int>(min64(cols, WD)), static_cast<int>(max64(cols - WD, 0)));
}

// Columns [first, first + width) of B, rows [k0, k0 + k), as [k][kPanel64], zeros to the right.
void pack64(const GemmArgs& g, const double* b, int64_t first, int64_t width, int64_t k0, int64_t k, double* to) {
  for (int64_t p = 0; p < k; ++p) {
    const double* from = g.b_transposed ? b + first * g.ldb + k0 + p : b + (k0 + p) * g.ldb + first;
    const int64_t step = g.b_transposed ? g.ldb : 1;
    double* row = to + p * kPanel64;
    for (int64_t c = 0; c < width; ++c) row[c] = from[c * step];
    for (int64_t c = width; c < kPanel64; ++c) row[c] = 0;
  }
}

// So few rows that B is read where it stands, in whole panels.
bool in_place(const GemmArgs& g) { return g.m <= kTileRows && !g.b_transposed && g.n % kPanel64 == 0; }

size_t workspace(const GemmArgs& g) {
  if (in_place(g)) return 0;
  const int64_t columns = ceil_div(min64(g.n, kBlockN64), kPanel64) * kPanel64;
  return static_cast<size_t>(columns * min64(g.k, kBlockK64)) * sizeof(double);
}

void multiply_in_place(const GemmArgs& g, const double* a, const double* b, double* c) {
  parallel_for(ceil_div(g.n, kPanel64), g.m * g.n * g.k / WD, [&](int64_t panel) {
    const int64_t j = panel * kPanel64;
    for_pieces(g.k, g.piece(), [&](int64_t k0, int64_t end) {
      run_tile64(static_cast<int>(g.m), g.n - j,
                 {a + k0 * g.a_col, g.a_row, g.a_col, b + k0 * g.ldb + j, g.ldb, end - k0, c + j, g.n, k0 > 0});
    });
  });
}

void multiply(const GemmArgs& g, const double* a, const double* b, double* c, double* packed) {
  const int64_t tiles = ceil_div(g.m, kTileRows), rows = ceil_div(g.m, tiles), block_k = g.piece();
  const int64_t tiles_a_chunk = ceil_div(tiles, 32);
  for (int64_t n0 = 0; n0 < g.n; n0 += kBlockN64) {
    const int64_t n = min64(kBlockN64, g.n - n0);
    int64_t k0 = 0;
    do {
      const int64_t k = min64(block_k, g.k - k0);
      parallel_for(ceil_div(n, kPanel64), n * k, [&](int64_t panel) {
        const int64_t j = panel * kPanel64;
        pack64(g, b, n0 + j, min64(kPanel64, n - j), k0, k, packed + j * k);
      });
      parallel_for(ceil_div(tiles, tiles_a_chunk), g.m * n * k / WD, [&](int64_t chunk) {
        double a_panel[kTileRows * kBlockK64];
        const int64_t last = min64(tiles, (chunk + 1) * tiles_a_chunk);
        for (int64_t i = chunk * tiles_a_chunk; i < last && i * rows < g.m; ++i) {
          const int64_t r0 = i * rows, r = min64(rows, g.m - r0);
          const double* src = a + r0 * g.a_row + k0 * g.a_col;
          for (int64_t q = 0; q < r; ++q)
            for (int64_t p = 0; p < k; ++p) a_panel[p * r + q] = src[q * g.a_row + p * g.a_col];
          for (int64_t j = 0; j < n; j += kPanel64)
            run_tile64(static_cast<int>(r), n - j,
                       {a_panel, 1, r, packed + j * k, kPanel64, k, c + r0 * g.n + n0 + j, g.n, k0 > 0});
        }
      });
      k0 += k;
    } while (k0 < g.k);
  }
}

void run(const GemmArgs& g, const double* a, const double* b, double* c, void* workspace) {
  if (g.m == 0 || g.n == 0) return;
  for (int64_t i = 0; i < g.batch; ++i) {
    const double *ai = a + g.a_offset[i], *bi = b + g.b_offset[i];
    double* ci = c + i * g.m * g.n;
    if (in_place(g))
      multiply_in_place(g, ai, bi, ci);
    else
      multiply(g, ai, bi, ci, static_cast<double*>(workspace));
  }
}

}  // namespace

const Gemm64Table gemm64_table = {workspace, run};

}  // namespace dlcore::DLCORE_ISA
