#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {
namespace {

// R rows by V vectors, the last one of `tail` lanes when Partial. Each pointer into A serves three rows, which x86
// addresses as p, p + a_row, p + 2·a_row: fourteen pointers would not fit the registers.
template <int R, int V, bool Partial>
void tile(const TileArgs& t, int64_t column, int tail) {
  constexpr int G = (R + 2) / 3;
  VF acc[R][V];
  float* c = t.c + column;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = VF{};
  }
  if (t.accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        acc[r][v] = Partial && v == V - 1 ? load_partial(c + r * t.c_row + v * W, tail) : load(c + r * t.c_row + v * W);
    }
  }
  const int64_t a_row = t.a_row, a_step = t.a_step, b_row = t.b_row;
  for (int64_t s = 0; s < t.count; ++s) {
    const float* a[G];
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) a[g] = t.segments[s].a + 3 * g * a_row;
    const float* b = t.segments[s].b + column;
    for (int64_t p = t.segments[s].length; p > 0; --p) {
      VF bv[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) bv[v] = Partial && v == V - 1 ? load_partial(b + v * W, tail) : load(b + v * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const VF x = splat(a[r / 3][(r % 3) * a_row]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[r][v] = fma(x, bv[v], acc[r][v]);
      }
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) a[g] += a_step;
      b += b_row;
    }
  }
  if (t.bias) {
    VF bias[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      bias[v] = Partial && v == V - 1 ? load_partial(t.bias + column + v * W, tail) : load(t.bias + column + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = acc[r][v] + bias[v];
    }
    if (t.relu) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[r][v] = rectified(acc[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (Partial && v == V - 1)
        store_partial(c + r * t.c_row + v * W, acc[r][v], tail);
      else
        store(c + r * t.c_row + v * W, acc[r][v]);
    }
  }
}

using TileFn = void (*)(const TileArgs&, int64_t, int);
struct RowTiles {
  TileFn one, one_partial, two, two_partial, four, eight;  // nullptr where the registers do not suffice
};

template <int R>
constexpr RowTiles row_tiles() {
  RowTiles t{tile<R, 1, false>, tile<R, 1, true>, tile<R, 2, false>, tile<R, 2, true>, nullptr, nullptr};
#ifdef __AVX512F__
  if constexpr (R <= 6) t.four = tile<R, 4, false>;
  if constexpr (R <= 3) t.eight = tile<R, 8, false>;
#else
  if constexpr (R <= 3) t.four = tile<R, 4, false>;
  if constexpr (R <= 1) t.eight = tile<R, 8, false>;
#endif
  return t;
}

constexpr RowTiles kTiles[kTileRows] = {
    row_tiles<1>(),  row_tiles<2>(),  row_tiles<3>(), row_tiles<4>(),  row_tiles<5>(),  row_tiles<6>(),
#ifdef __AVX512F__
    row_tiles<7>(),  row_tiles<8>(),  row_tiles<9>(), row_tiles<10>(), row_tiles<11>(), row_tiles<12>(),
    row_tiles<13>(), row_tiles<14>(),
#endif
};

}  // namespace

int wide_panel(int rows) {
  const RowTiles& tiles = kTiles[rows - 1];
  return tiles.eight ? 8 * W : tiles.four ? 4 * W : 2 * W;
}

void run_tile(int rows, int64_t cols, const TileArgs& args) {
  const RowTiles& tiles = kTiles[rows - 1];
  int64_t j = 0;
  if (tiles.eight)
    for (; cols - j >= 8 * W; j += 8 * W) tiles.eight(args, j, W);
  if (tiles.four)
    for (; cols - j >= 4 * W; j += 4 * W) tiles.four(args, j, W);
  for (; cols - j >= 2 * W; j += 2 * W) tiles.two(args, j, W);
  const int rest = static_cast<int>(cols - j);
  if (rest > W)
    tiles.two_partial(args, j, rest - W);
  else if (rest == W)
    tiles.one(args, j, W);
  else if (rest > 0)
    tiles.one_partial(args, j, rest);
}

void pack_transposed(const PackArgs& p) {
  for (int64_t r0 = 0; r0 < p.width; r0 += W) {
    const int64_t rows = p.rows - r0;
    const int lanes = p.width - r0 < W ? static_cast<int>(p.width - r0) : W;
    int64_t tap = 0, row = 0;
    for (int64_t q0 = 0; q0 < p.cols; q0 += W) {
      VF v[W];
      load_block(p.src + (rows > 0 ? r0 * p.row_stride : 0) + q0, p.row_stride, rows, p.cols - q0, v);
      transpose_registers(v);
      if (p.taps == 1 && lanes == W && p.cols - q0 >= W) {
        float* dst = p.dst + q0 * p.width + r0;
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(dst + i * p.width, v[i]);
        row += W;
        continue;
      }
      const int64_t n = p.cols - q0 < W ? p.cols - q0 : W;
      if (p.taps == 1 && p.width < W) {
        for (int64_t i = 0; i < n; ++i) store(p.dst + (q0 + i) * p.width, v[i]);
        continue;
      }
      for (int64_t i = 0; i < n; ++i) {
        store_partial(p.dst + (tap * p.tap_rows + row) * p.width + r0, v[i], lanes);
        if (++tap == p.taps) {
          tap = 0;
          ++row;
        }
      }
    }
  }
}

void transpose(const float* src, int64_t src_stride, int64_t rows, int64_t cols, float* dst, int64_t dst_stride) {
  for (int64_t r0 = 0; r0 < rows; r0 += W) {
    for (int64_t c0 = 0; c0 < cols; c0 += W) {
      VF v[W];
      load_block(src + r0 * src_stride + c0, src_stride, rows - r0, cols - c0, v);
      transpose_registers(v);
      float* out = dst + c0 * dst_stride + r0;
      if (rows - r0 >= W && cols - c0 >= W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(out + i * dst_stride, v[i]);
      } else {
        const int lanes = rows - r0 < W ? static_cast<int>(rows - r0) : W;
        const int64_t n = cols - c0 < W ? cols - c0 : W;
        for (int64_t i = 0; i < n; ++i) store_partial(out + i * dst_stride, v[i], lanes);
      }
    }
  }
}

}  // namespace dlcore::DLCORE_ISA
