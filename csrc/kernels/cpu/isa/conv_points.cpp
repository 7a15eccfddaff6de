// The implicit product behind forward and backward-data: a tile is a dozen destination pixels by two vectors of
// channels, its A the source pixels reached through a table of pointers (a pointer to zeros for padding), built for
// each tile and a block of the reduction. Any stride, padding, dilation and grouping are a matter of the table.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

#ifdef DLCORE_WIDE
constexpr int kPixels = 12;  // 12 pointers, the weights' and a counter: 14 of the 15 integer registers
#else
constexpr int kPixels = 6;
#endif
constexpr int kSteps = 4;  // channels between two turns of the innermost loop
constexpr int64_t kTableTaps = 64;
constexpr int64_t kBlockChannels = 640;  // of the reduction: with 128 columns of weights 320 KB, within the L2 cache
constexpr int64_t kTilesAChunk = 16;
constexpr int64_t kPanelsAChunk = 4;
// With so few tiles of pixels the weights are most of what is read; where they come from memory they are asked for a
// block ahead.
constexpr int64_t kAheadTiles = 4, kAheadFloats = int64_t{1} << 20;
const float kZeros[kBlockChannels] = {};

struct PointTile {
  const float* const* table;  // [tap][R]
  const int64_t* weight_offset;
  int64_t taps, channels;
  const float* weights;
  float* const* out;  // R pointers, the first `rows` of which count
  int rows;
  bool accumulate;
  const char* ahead;   // weights that are needed next, to be asked for on the way …
  int64_t ahead_step;  // … so many bytes a channel
};

template <int R, int V, bool Ahead>
void point_tile(const PointTile& t, int tail) {
  VF acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) acc[r][v] = VF{};
  }
  if (t.accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v)
        if (r < t.rows) acc[r][v] = v == V - 1 ? load_partial(t.out[r] + v * W, tail) : load(t.out[r] + v * W);
    }
  }
  const int64_t channels = t.channels;
  const char* ahead = t.ahead;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const float* x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = t.table[tap * R + r] + channels;
    const float* w = t.weights + t.weight_offset[tap];
    const auto multiply = [&](int64_t c, int u) DLCORE_LAMBDA {
      VF wv[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) wv[v] = load(w + u * kPanel + v * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const VF xv = splat(x[r][c + u]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) accumulate(acc[r][v], xv, wv[v]);
      }
      if (Ahead) {
        __builtin_prefetch(ahead, 0, 2);
        ahead += t.ahead_step;
      }
    };
    int64_t c = -channels;
    for (; c <= -kSteps; c += kSteps, w += kSteps * kPanel) {
#pragma GCC unroll 4
      for (int u = 0; u < kSteps; ++u) multiply(c, u);
    }
    for (; c != 0; ++c, w += kPanel) multiply(c, 0);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    if (r < t.rows) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        if (v == V - 1 && tail < W)
          store_partial(t.out[r] + v * W, acc[r][v], tail);
        else
          store(t.out[r] + v * W, acc[r][v]);
      }
    }
  }
}

using PointFn = void (*)(const PointTile&, int);
struct PointKernel {
  int pixels;
  PointFn one, two, two_ahead;
};
template <int R>
constexpr PointKernel point_kernel() {
  return {R, point_tile<R, 1, false>, point_tile<R, 2, false>, point_tile<R, 2, true>};
}
constexpr PointKernel kPointKernels[] = {
    point_kernel<1>(), point_kernel<2>(),  point_kernel<4>(),  point_kernel<6>(),
#ifdef DLCORE_WIDE
    point_kernel<8>(), point_kernel<10>(), point_kernel<12>(),
#endif
};

const PointKernel& kernel_for(int64_t pixels) {
  const PointKernel* kernel = kPointKernels;
  while (kernel->pixels < pixels) ++kernel;
  return *kernel;
}

// The pixels of a tile: where each stands in the source and the destination.
struct Tile {
  int rows, lanes;  // pixels, and entries of the table a tap
  int64_t d[kPixels], h[kPixels], w[kPixels];
  const float* source[kPixels];  // the image in which (d, h, w) lies, or not
  float* dest[kPixels];
};

void locate(const PointConv& conv, const ConvPhase& phase, int64_t group, int64_t first, int64_t rows, int lanes,
            Tile& tile) {
  const int64_t source_c = conv.groups * conv.source_channels, dest_c = conv.groups * conv.dest_channels;
  int64_t j = first % phase.w.count, rest = first / phase.w.count, i = rest % phase.h.count, k = rest / phase.h.count;
  int64_t image = k / phase.d.count;
  k %= phase.d.count;
  const int64_t source_image = conv.source_d * conv.source_h * conv.source_w * source_c;
  tile.rows = static_cast<int>(rows);
  tile.lanes = lanes;
  for (int r = 0; r < lanes; ++r) {
    if (r >= rows) {  // not a pixel: far outside
      tile.d[r] = tile.h[r] = tile.w[r] = int64_t{1} << 40;
      tile.source[r] = nullptr;
      tile.dest[r] = nullptr;
      continue;
    }
    tile.d[r] = k * phase.d.source;
    tile.h[r] = i * phase.h.source;
    tile.w[r] = j * phase.w.source;
    tile.source[r] = conv.source + image * source_image + group * conv.source_channels;
    const int64_t plane = image * conv.dest_d + phase.d.first + k * phase.d.step;
    const int64_t row = plane * conv.dest_h + phase.h.first + i * phase.h.step;
    tile.dest[r] =
        conv.dest + group * conv.dest_channels + (row * conv.dest_w + phase.w.first + j * phase.w.step) * dest_c;
    if (++j == phase.w.count) {
      j = 0;
      if (++i == phase.h.count) {
        i = 0;
        if (++k == phase.d.count) {
          k = 0;
          ++image;
        }
      }
    }
  }
}

void build_table(const PointConv& conv, const Tile& tile, const ConvTap* taps, int64_t count, int64_t channel,
                 const float** table) {
  const int64_t source_c = conv.groups * conv.source_channels;
  for (int64_t t = 0; t < count; ++t) {
    for (int r = 0; r < tile.lanes; ++r) {
      const int64_t d = tile.d[r] + taps[t].offset_d, h = tile.h[r] + taps[t].offset_h,
                    w = tile.w[r] + taps[t].offset_w;
      const bool inside = static_cast<uint64_t>(d) < static_cast<uint64_t>(conv.source_d) &&
                          static_cast<uint64_t>(h) < static_cast<uint64_t>(conv.source_h) &&
                          static_cast<uint64_t>(w) < static_cast<uint64_t>(conv.source_w);
      *table++ = inside ? tile.source[r] + ((d * conv.source_h + h) * conv.source_w + w) * source_c + channel : kZeros;
    }
  }
}

struct Division {
  int64_t pixels, tiles, rows;  // of a phase: pixels, tiles, pixels a tile
};
Division divide(const PointConv& conv, const ConvPhase& phase) {
  const int64_t pixels = conv.n * phase.d.count * phase.h.count * phase.w.count, tiles = ceil_div(pixels, kPixels);
  return {pixels, tiles, tiles ? ceil_div(pixels, tiles) : 0};
}

// Calls body(phase, group, tiles first to last, part) for one chunk out of phases × groups × parts × runs of tiles.
template <class Body>
void for_chunk(const PointConv& conv, int64_t parts, int64_t chunk, Body&& body) {
  for (int64_t p = 0; p < conv.map->count; ++p) {
    const ConvPhase& phase = conv.map->phases[p];
    const Division d = divide(conv, phase);
    const int64_t runs = ceil_div(d.tiles, kTilesAChunk), own = runs * parts * conv.groups;
    if (chunk < own) {
      const int64_t run = chunk / parts % runs;
      body(phase, d, chunk / (parts * runs), run * kTilesAChunk, min64(d.tiles, (run + 1) * kTilesAChunk),
           chunk % parts);
      return;
    }
    chunk -= own;
  }
}

int64_t count_chunks(const PointConv& conv, int64_t parts) {
  int64_t chunks = 0;
  for (int64_t p = 0; p < conv.map->count; ++p)
    chunks += ceil_div(divide(conv, conv.map->phases[p]).tiles, kTilesAChunk) * parts * conv.groups;
  return chunks;
}

int64_t cycles(const PointConv& conv) {
  int64_t total = 0;
  for (int64_t p = 0; p < conv.map->count; ++p)
    total += divide(conv, conv.map->phases[p]).pixels * (conv.map->phases[p].tap_count + 1);
  return total * conv.groups * conv.source_channels * ceil_div(conv.dest_channels, W);
}

// A chunk is one stretch of memory where it has whole pixels, one after the other.
bool applies_at_once(const PointConv& conv) {
  return conv.epilogue && conv.map->count == 1 && conv.groups == 1 && conv.dest_channels <= kPanelsAChunk * kPanel;
}

void run_chunk(const PointConv& conv, const ConvPhase& phase, const Division& d, int64_t group, int64_t first,
               int64_t last, int64_t part) {
  const int64_t panels = ceil_div(conv.dest_channels, kPanel);
  const int64_t panel_size = conv.taps * conv.source_channels * kPanel;
  const int64_t last_panel = min64(panels, (part + 1) * kPanelsAChunk);
  const int64_t block_c = even(conv.source_channels, kBlockChannels);
  const int64_t block_t =
      even(phase.tap_count, max64(1, min64(kTableTaps, kBlockChannels / max64(1, conv.source_channels))));
  const PointKernel& kernel = kernel_for(d.rows);
  const int64_t tiles = min64(last, d.tiles) - first;
  const bool ahead = tiles <= kAheadTiles && phase.tap_count > 0 &&
                     conv.dest_channels * conv.taps * conv.source_channels >= kAheadFloats;
  const float* table[kTableTaps * kPixels];
  int64_t weight_offset[kTableTaps];
  Tile tile;
  int64_t t0 = 0;
  do {
    const int64_t taps = min64(block_t, phase.tap_count - t0);
    int64_t c0 = 0;
    do {
      const int64_t channels = min64(block_c, conv.source_channels - c0);
      for (int64_t t = 0; t < taps; ++t)
        weight_offset[t] = (phase.taps[t0 + t].index * conv.source_channels + c0) * kPanel;
      // The next block: other channels, other taps, or the first one of the next panels.
      const bool same_taps = c0 + channels < conv.source_channels,
                 same_panels = same_taps || t0 + taps < phase.tap_count;
      const int64_t next_tap = same_taps ? t0 : same_panels ? t0 + taps : 0, next_c = same_taps ? c0 + channels : 0;
      const int64_t next = (same_panels ? 0 : kPanelsAChunk * panel_size) +
                           (ahead ? (phase.taps[next_tap].index * conv.source_channels + next_c) * kPanel : 0);
      for (int64_t i = first; i < last && i * d.rows < d.pixels; ++i) {
        locate(conv, phase, group, i * d.rows, min64(d.rows, d.pixels - i * d.rows), kernel.pixels, tile);
        build_table(conv, tile, phase.taps + t0, taps, c0, table);
        for (int64_t panel = part * kPanelsAChunk; panel < last_panel; ++panel) {
          const int64_t width = min64(kPanel, conv.dest_channels - panel * kPanel);
          float* out[kPixels];
          for (int r = 0; r < tile.rows; ++r) out[r] = tile.dest[r] + panel * kPanel;
          const float* weights = conv.weights + (group * panels + panel) * panel_size;
          const bool asks = ahead && (same_panels || panel + kPanelsAChunk < panels);
          const int64_t share = taps * channels * (i - first) / tiles * kPanel;
          const PointTile args{table,
                               weight_offset,
                               taps,
                               channels,
                               weights,
                               out,
                               tile.rows,
                               t0 > 0 || c0 > 0,
                               reinterpret_cast<const char*>(weights + next + share),
                               kPanel * static_cast<int64_t>(sizeof(float)) / tiles};
          if (width > W)
            (asks ? kernel.two_ahead : kernel.two)(args, static_cast<int>(width - W));
          else
            kernel.one(args, static_cast<int>(width));
        }
      }
      c0 += channels;
    } while (c0 < conv.source_channels);
    t0 += taps;
  } while (t0 < phase.tap_count);
  if (applies_at_once(conv))
    conv.epilogue->range(*conv.epilogue, first * d.rows * conv.dest_channels,
                         (min64(last * d.rows, d.pixels) - first * d.rows) * conv.dest_channels);
}

}  // namespace

void run_points(const PointConv& conv) {
  const int64_t parts = ceil_div(ceil_div(conv.dest_channels, kPanel), kPanelsAChunk);
  parallel_for(count_chunks(conv, parts), cycles(conv), [&](int64_t chunk) {
    for_chunk(conv, parts, chunk,
              [&](const ConvPhase& phase, const Division& d, int64_t group, int64_t first, int64_t last, int64_t part) {
                run_chunk(conv, phase, d, group, first, last, part);
              });
  });
  if (!applies_at_once(conv))
    apply_all(conv.epilogue, conv.n * conv.dest_d * conv.dest_h * conv.dest_w * conv.groups * conv.dest_channels);
}

}  // namespace dlcore::DLCORE_ISA
