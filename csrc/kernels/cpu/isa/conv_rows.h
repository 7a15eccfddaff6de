// Rows of destination pixels, for the convolutions whose work a pixel is too small to pay for a table of pointers. The
// source rows that a row of pixels sees pass through a ring of rows in the cache, framed by zeros, so that memory is
// read once, in order, and no pixel is at an edge. Where the ring would be too large, pixels at the edges go one by
// one.
#pragma once
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {

inline constexpr int64_t kRowTaps = 64;        // of a block: larger windows add to what the block before left
inline constexpr int64_t kRowChannels = 1024;  // of a block: taps outside the image read so many zeros
inline constexpr int64_t kRingFloats = 49152;  // 192 KB of the L2 cache
inline const float kRowZeros[kRowChannels] = {};

// What a tap reads: destination pixel j of the row sees from + j·step (the zeros: step 0).
struct RowTap {
  const float* from;
  int64_t step;
  int64_t weight;  // the tap's index in the kernel
};

// `count` neighbouring destination pixels: taps as `down` rows of `across`.
struct RowRun {
  RowTap taps[kRowTaps];
  int64_t count, down, across;
  float* out;
  int64_t out_step;
  // Where the taps of a row read neighbouring pixels, the stride from one destination pixel to the next in the
  // direction of the taps (-1: they descend); else 0.
  int64_t stride;
  bool accumulate;  // start the chains at `out` instead of +0
  // The rows of the source that are needed next, to be asked for with each pixel: `ahead_rows` of them (or none),
  // ahead_row apart, of each `ahead_pixels` pixels, ahead_step apart.
  const float* ahead;
  int64_t ahead_rows, ahead_row, ahead_pixels, ahead_step;

  void ask_for(const float* first, int64_t rows, int64_t row, int64_t pixels, int64_t step) {
    ahead = first, ahead_rows = rows, ahead_row = row, ahead_pixels = pixels, ahead_step = step;
  }
};

inline int64_t taps_across(const ConvPhase& phase) {
  int64_t n = 0;
  while (n < phase.tap_count && phase.taps[n].offset_h == phase.taps[0].offset_h &&
         phase.taps[n].offset_d == phase.taps[0].offset_d)
    ++n;
  return n;
}

// The source rows and columns behind the destination's rows.
struct Window {
  int64_t low, high;  // rows low <= r <= high; none where low > high
};
inline Window window_of(const PointConv& conv, int64_t h) {
  Window found{int64_t{1} << 60, -(int64_t{1} << 60)};
  for (int64_t p = 0; p < conv.map->count; ++p) {
    const ConvPhase& phase = conv.map->phases[p];
    if (h % phase.h.step != phase.h.first || phase.tap_count == 0) continue;
    const int64_t at = h / phase.h.step * phase.h.source;
    const int64_t a = at + phase.taps[0].offset_h, b = at + phase.taps[phase.tap_count - 1].offset_h;
    found = {min64(found.low, min64(a, b)), max64(found.high, max64(a, b))};
  }
  return found;
}

struct Ring {
  int64_t rows, left, width;  // width 0: does not fit
  int64_t channels;           // of a block
};
// The source columns behind a row of the destination: the first, and the last.
struct Columns {
  int64_t left = int64_t{1} << 60, right = -(int64_t{1} << 60);
};
inline Columns columns_of(const PointConv& conv) {
  Columns c;
  for (int64_t p = 0; p < conv.map->count; ++p) {
    const ConvPhase& phase = conv.map->phases[p];
    for (int64_t t = 0; t < phase.tap_count; ++t) {
      c.left = min64(c.left, phase.taps[t].offset_w);
      c.right = max64(c.right, phase.taps[t].offset_w + (phase.w.count - 1) * phase.w.source);
    }
  }
  return c;
}
// `unit`: what channels of a block are a multiple of.
inline Ring ring_of(const PointConv& conv, int64_t channels, int64_t unit) {
  const auto [left, right] = columns_of(conv);
  Ring ring{0, left, 0, 0};
  if (conv.source_d * conv.dest_d != 1) return ring;
  Window last{-(int64_t{1} << 60), -(int64_t{1} << 60)};
  for (int64_t h = 0; h < conv.dest_h; ++h) {
    const Window now = window_of(conv, h);
    if (now.low > now.high) continue;
    if (now.low < last.low || now.high < last.high) return ring;
    ring.rows = max64(ring.rows, now.high - now.low + 1);
    last = now;
  }
  if (right < ring.left || ring.rows > kRingFloats || right - ring.left >= kRingFloats) return ring;
  const int64_t pixels = ring.rows * (right - ring.left + 1), fit = kRingFloats / pixels / unit;
  if (fit == 0) return ring;
  ring.channels = even(ceil_div(channels, unit), fit) * unit;
  ring.width = right - ring.left + 1;
  return ring;
}

// Row r of the image into its place in the ring, `n` channels a pixel.
inline void fill_ring(const PointConv& conv, const Ring& ring, int64_t r, const float* source, int64_t source_c,
                      int64_t n, float* to) {
  const bool row = r >= 0 && r < conv.source_h;
  const int64_t first = row ? min64(ring.width, max64(0, -ring.left)) : ring.width;
  const int64_t end = max64(first, min64(ring.width, conv.source_w - ring.left)), c = ring.channels;
  const auto zero = [](float* p, float* last) {
    for (; p + W <= last; p += W) store(p, VF{});
    store_partial(p, VF{}, static_cast<int>(last - p));
  };
  zero(to, to + first * c);
  const float* from = source + (r * conv.source_w + ring.left + first) * source_c;
  float* p = to + first * c;
  if (n == source_c && n == c) {
    float* const last = to + end * c;
    for (; p + W <= last; p += W, from += W) store(p, load(from));
    store_partial(p, load_partial(from, static_cast<int>(last - p)), static_cast<int>(last - p));
  } else {
    for (int64_t q = first; q < end; ++q, p += c, from += source_c) {
      int64_t k = 0;
      for (; k + W <= n; k += W) store(p + k, load(from + k));
      if (k < n) store_partial(p + k, load_partial(from + k, static_cast<int>(n - k)), static_cast<int>(n - k));
    }
  }
  zero(to + end * c, to + ring.width * c);
}

// Calls body(run) for each stretch of pixels in destination rows [first, last) of an image, for `n` channels that begin
// at `source` and `dest` in the image's first pixel.
template <class Body>
void for_rows(const PointConv& conv, const Ring& ring, int64_t first, int64_t last, const float* source,
              int64_t source_c, int64_t n, float* dest, int64_t dest_c, Body&& body) {
  alignas(64) float rows[kRingFloats];
  RowRun run;
  int64_t filled = -(int64_t{1} << 60);
  for (int64_t h = first; h < last; ++h) {
    const Window now = window_of(conv, h);
    for (int64_t r = max64(filled, now.low); r <= now.high; ++r, filled = r) {
      const int64_t slot = (r % ring.rows + ring.rows) % ring.rows;
      fill_ring(conv, ring, r, source, source_c, n, rows + slot * ring.width * ring.channels);
    }
    const bool next =
        conv.map->count == 1 && conv.map->phases[0].w.source == 1 && now.high >= 0 && now.high + 1 < conv.source_h;
    run.ask_for(source + (next ? now.high + 1 : 0) * conv.source_w * source_c, next, 0, 1, source_c);
    for (int64_t p = 0; p < conv.map->count; ++p) {
      const ConvPhase& phase = conv.map->phases[p];
      if (h % phase.h.step != phase.h.first) continue;
      const int64_t nw = taps_across(phase), block = nw > kRowTaps ? kRowTaps : nw * (kRowTaps / max64(1, nw));
      const int64_t gap = nw > 1 ? phase.taps[1].offset_w - phase.taps[0].offset_w : 1;
      run.count = phase.w.count;
      run.out = dest + (h * conv.dest_w + phase.w.first) * dest_c;
      run.out_step = phase.w.step * dest_c;
      run.stride = gap == 1 ? phase.w.source : gap == -1 && phase.w.source == 1 ? -1 : 0;
      int64_t t = 0;
      do {
        const int64_t taps = min64(block, phase.tap_count - t);
        run.across = min64(taps, nw);
        run.down = nw > kRowTaps ? 1 : taps / max64(1, nw);
        run.accumulate = t > 0;
        for (int64_t k = 0; k < taps; ++k) {
          const ConvTap& tap = phase.taps[t + k];
          const int64_t r = h / phase.h.step * phase.h.source + tap.offset_h;
          const int64_t slot = (r % ring.rows + ring.rows) % ring.rows;
          run.taps[k] = {rows + (slot * ring.width + tap.offset_w - ring.left) * ring.channels,
                         phase.w.source * ring.channels, tap.index};
        }
        body(run);
        t += taps;
      } while (t < phase.tap_count);
    }
  }
}

// Without the ring: calls body(run) for the pixels of destination row `h` of a plane: one run inside, one a pixel at
// the edges. `source` and `dest` point to the block of channels in the first pixel of the image; pixels are `source_c`
// and `dest_c` apart.
template <class Body>
void for_row(const PointConv& conv, int64_t plane, int64_t h, const float* source, int64_t source_c, float* dest,
             int64_t dest_c, Body&& body) {
  for (int64_t p = 0; p < conv.map->count; ++p) {
    const ConvPhase& phase = conv.map->phases[p];
    if (plane % phase.d.step != phase.d.first || h % phase.h.step != phase.h.first) continue;
    const int64_t i = h / phase.h.step, nw = taps_across(phase), last = max64(0, nw - 1);
    float* out = dest + (h * conv.dest_w + phase.w.first) * dest_c;
    const int64_t gap = nw > 1 ? phase.taps[1].offset_w - phase.taps[0].offset_w : 1;
    const int64_t low = nw ? min64(phase.taps[0].offset_w, phase.taps[last].offset_w) : 0;
    const int64_t high = nw ? max64(phase.taps[0].offset_w, phase.taps[last].offset_w) : 0;
    int64_t first = 0, end = phase.w.count;
    while (first < end && first * phase.w.source + low < 0) ++first;
    while (end > first && (end - 1) * phase.w.source + high >= conv.source_w) --end;
    const int64_t block = nw > kRowTaps ? kRowTaps : nw * (kRowTaps / max64(1, nw));
    RowRun run;
    run.out_step = phase.w.step * dest_c;
    run.stride = gap == 1 ? phase.w.source : gap == -1 && phase.w.source == 1 ? -1 : 0;
    // The next row of pixels sees as many new rows as the stride; not asked for beyond the plane.
    const int64_t soon =
        max64(0, i * phase.h.source + (phase.tap_count ? phase.taps[phase.tap_count - 1].offset_h : 0) + 1);
    const bool simple = conv.map->count == 1 && conv.source_d == 1 && conv.dest_d == 1;
    const int64_t rows = simple ? max64(0, min64(phase.h.source, conv.source_h - soon)) : 0;
    const auto emit = [&](int64_t j, int64_t pixels) {
      run.count = pixels;
      run.out = out + j * run.out_step;
      run.ask_for(source + (soon * conv.source_w + j * phase.w.source) * source_c, pixels > 1 ? rows : 0,
                  conv.source_w * source_c, phase.w.source, source_c);
      int64_t t = 0;
      do {
        const int64_t taps = min64(block, phase.tap_count - t);
        run.across = min64(taps, nw);
        run.down = nw > kRowTaps ? 1 : taps / max64(1, nw);
        run.accumulate = t > 0;
        for (int64_t k = 0; k < taps; ++k) {
          const ConvTap& tap = phase.taps[t + k];
          const int64_t from_d = plane / phase.d.step * phase.d.source + tap.offset_d;
          const int64_t from_h = i * phase.h.source + tap.offset_h, from_w = j * phase.w.source + tap.offset_w;
          const bool inside = from_d >= 0 && from_d < conv.source_d && from_h >= 0 && from_h < conv.source_h &&
                              from_w >= 0 && from_w < conv.source_w;
          run.taps[k] = {
              inside ? source + ((from_d * conv.source_h + from_h) * conv.source_w + from_w) * source_c : kRowZeros,
              inside ? phase.w.source * source_c : 0, tap.index};
        }
        body(run);
        t += taps;
      } while (t < phase.tap_count);
    };
    for (int64_t j = 0; j < first; ++j) emit(j, 1);
    if (end > first) emit(first, end - first);
    for (int64_t j = end; j < phase.w.count; ++j) emit(j, 1);
  }
}

}  // namespace dlcore::DLCORE_ISA
