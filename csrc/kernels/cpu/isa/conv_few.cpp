// Backward-data towards an image's one to three channels. So few outputs a pixel fill no vector: lanes are neighbouring
// pixels instead, for which the rows of gradients are transposed, channel by channel: into a ring in the cache, or with
// a depth, whose slices a row sees several of, all rows of an image.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_rows.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kFloats = 98304;                   // 384 KB, of a second-level cache
constexpr int64_t kVolumeFloats = int64_t{1} << 24;  // 64 MB
#ifdef DLCORE_WIDE
constexpr int kMost = 4;
#else
constexpr int kMost = 3;
#endif

struct PixelTile {
  const float* from[kRowTaps];
  const float* weights[kRowTaps];  // [source channel][destination channel]
  int64_t taps, channels, stride;  // from one source channel to the next
  bool accumulate;
  float* sums;  // [destination channel][kMost·W]
};

template <int I, int V>
void pixel_tile(const PixelTile& t) {
  VF acc[I][V];
#pragma GCC unroll 4
  for (int i = 0; i < I; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[i][v] = t.accumulate ? load(t.sums + (i * kMost + v) * W) : VF{};
  }
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const float* x = t.from[tap];
    const float* w = t.weights[tap];
    for (int64_t c = 0; c < t.channels; ++c, x += t.stride, w += I) {
      VF xv[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) xv[v] = load(x + v * W);
#pragma GCC unroll 4
      for (int i = 0; i < I; ++i) {
        const VF wv = splat(w[i]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[i][v] = fma(xv[v], wv, acc[i][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < I; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(t.sums + (i * kMost + v) * W, acc[i][v]);
  }
}

using PixelFn = void (*)(const PixelTile&);
template <int V>
PixelFn pixel_fn(int64_t channels) {
  return channels == 1 ? pixel_tile<1, V> : channels == 2 ? pixel_tile<2, V> : pixel_tile<3, V>;
}
PixelFn pixel_fn(int64_t channels, int64_t vectors) {
  if (vectors == 1) return pixel_fn<1>(channels);
  if (vectors == 2) return pixel_fn<2>(channels);
  if (vectors == 3) return pixel_fn<3>(channels);
  return pixel_fn<kMost>(channels);
}

// Row r of the source into the ring, [channel][column].
void fill_transposed(const PointConv& conv, const Ring& ring, int64_t stride, int64_t r, const float* source,
                     float* to) {
  const bool row = r >= 0 && r < conv.source_h;
  const int64_t first = row ? min64(ring.width, max64(0, -ring.left)) : stride;
  const int64_t end = row ? max64(first, min64(ring.width, conv.source_w - ring.left)) : stride;
  for (int64_t c = 0; c < conv.source_channels; ++c) {
    float* line = to + c * stride;
    for (int64_t i = 0; i < first; ++i) line[i] = 0;
    for (int64_t i = end; i < stride; ++i) line[i] = 0;
  }
  if (end > first)
    transpose(source + (r * conv.source_w + ring.left + first) * conv.source_channels, conv.source_channels,
              end - first, conv.source_channels, to + first, stride);
}

// Row h of slice z; row_at(slice, row) is the transposed source row, from column `left` on.
template <class F>
void run_row(const PointConv& conv, int64_t left, int64_t stride, int64_t z, int64_t h, F row_at, float* dest) {
  const int64_t channels = conv.dest_channels;
  for (int64_t p = 0; p < conv.map->count; ++p) {
    const ConvPhase& phase = conv.map->phases[p];
    if (h % phase.h.step != phase.h.first || z % phase.d.step != phase.d.first) continue;
    float* out = dest + ((z * conv.dest_h + h) * conv.dest_w + phase.w.first) * channels;
    for (int64_t j = 0; j < phase.w.count; j += kMost * W) {
      const int64_t pixels = min64(kMost * W, phase.w.count - j);
      float sums[3 * kMost * W];
      PixelTile t{{}, {}, 0, conv.source_channels, stride, false, sums};
      int64_t at = 0;
      do {
        t.taps = min64(kRowTaps, phase.tap_count - at);
        t.accumulate = at > 0;
        for (int64_t k = 0; k < t.taps; ++k) {
          const ConvTap& tap = phase.taps[at + k];
          const float* row = row_at(z / phase.d.step * phase.d.source + tap.offset_d,
                                    h / phase.h.step * phase.h.source + tap.offset_h);
          t.from[k] = row + j + tap.offset_w - left;
          t.weights[k] = conv.weights + tap.index * conv.source_channels * channels;
        }
        pixel_fn(channels, ceil_div(pixels, W))(t);
        at += t.taps;
      } while (at < phase.tap_count);
      for (int64_t q = 0; q < pixels; ++q)
        for (int64_t i = 0; i < channels; ++i) out[(j + q) * phase.w.step * channels + i] = sums[i * kMost * W + q];
    }
  }
}

}  // namespace

bool data_to_few(const ConvShape& s) { return goes_by_rows(s) && s.groups == 1 && s.co >= 8 && s.w >= W; }

size_t workspace_few(const ConvShape& s) {
  if (!data_to_few(s) || is_flat(s)) return 0;
  const int64_t columns = ceil_div(s.w, s.stride_w) + ceil_div(s.pad_left + (s.kw - 1) * s.dilation_w, s.stride_w) + 3;
  if (columns > kVolumeFloats) return 0;
  const int64_t floats = (s.od * s.oh + 1) * s.co * (columns + W);
  return floats <= kVolumeFloats ? static_cast<size_t>(floats) * sizeof(float) : 0;
}

void pack_few(const ConvShape& s, const float* w, float* packed) {
  const int64_t taps = s.taps();
  for (int64_t t = 0; t < taps; ++t)
    for (int64_t oi = 0; oi < s.co * s.ci; ++oi) *packed++ = w[oi * taps + t];
}

bool fits_few(const PointConv& conv) {
  const Ring ring = ring_of(conv, 1, 1);
  return ring.width && ring.rows * conv.source_channels * (ring.width + kMost * W) <= kFloats;
}

void run_volume_few(const PointConv& conv, float* space) {
  const auto [left, right] = columns_of(conv);
  const Ring row{1, left, max64(0, right - left + 1), 1};
  const int64_t stride = row.width + W, line = conv.source_channels * stride;
  const int64_t source_rows = conv.source_d * conv.source_h, dest_rows = conv.dest_d * conv.dest_h;
  float* zeros = space + source_rows * line;
  for (int64_t i = 0; i < line; ++i) zeros[i] = 0.0f;
  for (int64_t image = 0; image < conv.n; ++image) {
    const float* source = conv.source + image * source_rows * conv.source_w * conv.source_channels;
    float* dest = conv.dest + image * dest_rows * conv.dest_w * conv.dest_channels;
    parallel_for(source_rows, source_rows * line / 4, [&](int64_t r) {
      const int64_t z = r / conv.source_h;
      fill_transposed(conv, row, stride, r % conv.source_h,
                      source + z * conv.source_h * conv.source_w * conv.source_channels, space + r * line);
    });
    const int64_t cycles = dest_rows * ceil_div(conv.dest_w, W) * conv.taps * conv.source_channels * 2;
    parallel_for(dest_rows, cycles, [&](int64_t r) {
      const auto row_at = [&](int64_t slice, int64_t h) {
        const bool inside = slice >= 0 && slice < conv.source_d && h >= 0 && h < conv.source_h;
        return inside ? space + (slice * conv.source_h + h) * line : zeros;
      };
      run_row(conv, row.left, stride, r / conv.dest_h, r % conv.dest_h, row_at, dest);
    });
  }
}

void run_points_few(const PointConv& conv) {
  const Ring ring = ring_of(conv, 1, 1);
  const int64_t stride = ring.width + kMost * W, line = conv.source_channels * stride;
  const int64_t chunk_rows = even(conv.dest_h, max64(4 * ring.rows, 8)), chunks = ceil_div(conv.dest_h, chunk_rows);
  const int64_t cycles = conv.n * conv.dest_h * ceil_div(conv.dest_w, W) * conv.taps * conv.source_channels * 2;
  parallel_for(conv.n * chunks, cycles, [&](int64_t chunk) {
    alignas(64) float rows[kFloats];
    const int64_t image = chunk / chunks, first = chunk % chunks * chunk_rows;
    const int64_t last = min64(conv.dest_h, first + chunk_rows);
    const float* source = conv.source + image * conv.source_h * conv.source_w * conv.source_channels;
    float* dest = conv.dest + image * conv.dest_h * conv.dest_w * conv.dest_channels;
    int64_t filled = -(int64_t{1} << 60);
    for (int64_t h = first; h < last; ++h) {
      const Window now = window_of(conv, h);
      for (int64_t r = max64(filled, now.low); r <= now.high; ++r, filled = r)
        fill_transposed(conv, ring, stride, r, source, rows + (r % ring.rows + ring.rows) % ring.rows * line);
      const auto row_at = [&](int64_t, int64_t r) { return rows + (r % ring.rows + ring.rows) % ring.rows * line; };
      run_row(conv, ring.left, stride, 0, h, row_at, dest);
    }
  });
}

}  // namespace dlcore::DLCORE_ISA
