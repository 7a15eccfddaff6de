// The tile of backward-weight for images of few channels. Rows of the product are taps, wherever in the padded image
// they read: a pointer each, so that one pass over the gradients serves a dozen.
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

template <int R, int V, bool Partial>
void tile(const FewWeightTile& t, int tail) {
  VF acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const float* c = t.c + r * t.c_row;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      acc[r][v] = VF{};
      if (t.accumulate) acc[r][v] = Partial && v == V - 1 ? load_partial(c + v * W, tail) : load(c + v * W);
    }
  }
  const float* b = t.b;
  const int64_t step = t.step, b_row = t.b_row, span = t.length * step;
  for (int64_t line = 0; line < t.count; ++line) {
    const float* x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = t.lines[line] + t.offset[r] + span;
    for (int64_t p = -span; p != 0; p += step, b += b_row) {
      VF bv[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) bv[v] = Partial && v == V - 1 ? load_partial(b + v * W, tail) : load(b + v * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const VF xv = splat(x[r][p]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[r][v] = fma(xv, bv[v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    float* c = t.c + r * t.c_row;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      if (Partial && v == V - 1)
        store_partial(c + v * W, acc[r][v], tail);
      else
        store(c + v * W, acc[r][v]);
    }
  }
}

using TileFn = void (*)(const FewWeightTile&, int);
struct Tiles {
  TileFn one, two, one_partial, two_partial;
};
template <int R>
constexpr Tiles tiles() {
  return {tile<R, 1, false>, tile<R, 2, false>, tile<R, 1, true>, tile<R, 2, true>};
}
constexpr Tiles kTiles[kFewTileRows] = {
    tiles<1>(), tiles<2>(), tiles<3>(), tiles<4>(),  tiles<5>(), tiles<6>(),
#ifdef DLCORE_WIDE
    tiles<7>(), tiles<8>(), tiles<9>(), tiles<10>(),
#endif
};

}  // namespace

void few_weight_tile(const FewWeightTile& t) {
  const Tiles& f = kTiles[t.rows - 1];
  if (t.cols > W)
    (t.cols == 2 * W ? f.two : f.two_partial)(t, static_cast<int>(t.cols - W));
  else
    (t.cols == W ? f.one : f.one_partial)(t, static_cast<int>(t.cols));
}

}  // namespace dlcore::DLCORE_ISA
