// Backward-weight: for each tap a product of the pixels' inputs (transposed) with the pixels' gradients. Images come in
// blocks whose sums are added in order (docs/ops.md); within a block the chain runs over bands of pixels, small enough
// that a band of both tensors stays in the cache while all taps pass over it.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kBandPixels = 128;
constexpr int64_t kCloseFloats = 64;
constexpr int64_t kTaskFloats = int64_t{1} << 16;
constexpr int64_t kRowsATask = 128;
constexpr int64_t kPanelsATask = 4;
constexpr int kDepthVectors = 4;
constexpr int64_t kApartFloats = int64_t{1} << 21;  // 8 MB

// A row set is the outputs that one stretch of input channels gives: a tap's channels, or, from a padded copy of images
// with few channels, those of all taps.
struct Sets {
  bool padded;
  int64_t count, size;
};
Sets sets_of(const ConvShape& s) {
  const bool padded = few_channels(s);
  return {padded, padded ? 1 : s.taps(), padded ? s.taps() * s.ci : s.ci};
}

int64_t weights(const ConvShape& s) { return s.groups * s.taps() * s.ci * s.co; }
int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Output positions first <= o < last for which o·stride + offset lies in [0, size).
struct Range {
  int64_t first, last;
};
Range valid(int64_t offset, int64_t stride, int64_t size, int64_t outputs) {
  const int64_t first = max64(0, -floor_div(offset, stride));
  return {first, max64(first, min64(outputs, floor_div(size - 1 - offset, stride) + 1))};
}

// dw (O, I, taps) from the sums [group][tap][I][O].
void scatter(const ConvShape& s, const float* sums, float* dw) {
  const int64_t taps = s.taps(), parts = ceil_div(s.co, W);
  parallel_for(s.groups * parts, weights(s), [&](int64_t chunk) {
    const int64_t group = chunk / parts, o = chunk % parts * W;
    const float* src = sums + group * taps * s.ci * s.co + o;
    float* dst = dw + (group * s.co + o) * s.ci * taps;
    const int64_t lanes = min64(W, s.co - o);
    if (taps == 1) {
      transpose(src, s.co, s.ci, lanes, dst, s.ci);
    } else {
      for (int64_t c = 0; c < s.ci; ++c)
        transpose(src + c * s.co, s.ci * s.co, taps, lanes, dst + c * taps, s.ci * taps);
    }
  });
}

// What one task adds up: rows [r0, r1) of the sets [s0, s1) and columns [j0, j1) of a group, over output rows of all
// images.
struct Task {
  int64_t group, s0, s1, r0, r1, j0, j1;
  int64_t rows;  // of a tile
};

// Adds the output rows [first, last) to the sums, few channels: both operands in place.
void band_direct(const ConvShape& s, const Sets&, const float* padded, const float* dy, const Task& t, int64_t first,
                 int64_t last, float* sums, bool accumulate) {
  const int64_t d = padded_d(s), h = padded_h(s), w = padded_w(s);
  const float* lines[kBandPixels];
  for (int64_t row = first; row < last; ++row)
    lines[row - first] =
        padded + ((row / s.oh / s.od * d + row / s.oh % s.od * s.stride_d) * h + row % s.oh * s.stride_h) * w * s.ci;
  int64_t offset[kRowsATask];
  const int64_t tap = t.r0 / s.ci;
  int64_t c = t.r0 % s.ci, kw = tap % s.kw, kh = tap / s.kw % s.kh, kd = tap / s.kw / s.kh;
  for (int64_t i = 0; i < t.r1 - t.r0; ++i) {
    offset[i] = ((kd * s.dilation_d * h + kh * s.dilation_h) * w + kw * s.dilation_w) * s.ci + c;
    if (++c < s.ci) continue;
    c = 0;
    if (++kw < s.kw) continue;
    kw = 0;
    if (++kh < s.kh) continue;
    kh = 0;
    ++kd;
  }
  for (int64_t j = t.j0; j < t.j1; j += kPanel)
    for (int64_t r = t.r0; r < t.r1; r += t.rows)
      few_weight_tile({lines, offset + r - t.r0, dy + first * s.ow * s.co + j, last - first, s.ow, s.stride_w * s.ci,
                       s.co, sums + r * s.co + j, s.co, min64(t.rows, t.r1 - r), min64(kPanel, t.j1 - j), accumulate});
}

// Copies `cols` floats of each of `pixels`, and asks for as many behind them, which are next: pixels lie too far apart
// to be foreseen. May write up to W beyond.
DLCORE_INLINE float* pack_pixels(const float* src, int64_t step, int64_t pixels, int64_t cols, float* dst) {
  if (cols <= W) {
    const int lanes = static_cast<int>(cols);
    for (; pixels > 0; --pixels, src += step, dst += cols) {
      __builtin_prefetch(src + 2 * cols - 1);
      store(dst, load_partial(src, lanes));
    }
  } else if (cols == 2 * W) {
    for (; pixels > 0; --pixels, src += step, dst += cols) {
      store(dst, load(src));
      store(dst + W, load(src + W));
    }
  } else {
    const int lanes = static_cast<int>(cols - W);
    for (; pixels > 0; --pixels, src += step, dst += cols) {
      store(dst, load(src));
      store(dst + W, load_partial(src + W, lanes));
    }
  }
  return dst;
}

DLCORE_INLINE float* pack_zeros(int64_t count, float* dst) {
  for (int64_t i = 0; i < count; i += W) store(dst + i, VF{});
  return dst + count;
}

// The same for many channels: pixels of a band, [first, last) counted over all images, of which dy is packed once for
// all sets. The inputs are read in place where pixels stand close together and rows are long, so that power-of-two
// distances do not fight for the same cache lines; otherwise they are packed tile by tile, with zeros for padding
// beside a row. Rows in the padding are left out.
void band_packed(const ConvShape& s, const Sets& sets, const float* x, const float* dy, const Task& t, int64_t first,
                 int64_t last, float* sums, bool accumulate) {
  const int64_t pixels = last - first, channels = s.groups * s.ci, outputs = s.groups * s.co;
  const int64_t step = s.stride_w * channels;
  const bool in_place = step <= kCloseFloats && s.ow >= 8;
  static_assert(kSingleRows >= kTileRows);
  float a_panel[kBandPixels * kSingleRows + W], b_panel[kBandPixels * kPanel * kPanelsATask + W];
  Segment segments[kBandPixels];
  int64_t starts[kBandPixels];  // of the segments within the band
  struct Row {
    int64_t at, before, inside, after;  // output pixels of the band: the first, and how many see what
    const float* from;                  // the first one's input
  } rows[kBandPixels];
  struct Line {
    int64_t at, begin, end;  // in the band its first pixel, in the output's row its pixels
    int64_t d, h;            // what tap (0, 0) sees without padding
    const float* image;
  } lines[kBandPixels];
  int64_t line_count = 0;
  for (int64_t at = first, end; at < last; at = end) {
    const int64_t row = at / s.ow, begin = row * s.ow, plane = row / s.oh;
    end = min64(last, begin + s.ow);
    lines[line_count++] = {at - first,
                           at - begin,
                           end - begin,
                           plane % s.od * s.stride_d,
                           row % s.oh * s.stride_h,
                           x + plane / s.od * s.d * s.h * s.w * channels};
  }
  for (int64_t j = t.j0; j < t.j1; j += kPanel)
    pack_pixels(dy + first * outputs + j, outputs, pixels, min64(kPanel, t.j1 - j), b_panel + (j - t.j0) * kBandPixels);
  sums += t.s0 * sets.size * s.co;
  for (int64_t set = t.s0; set < t.s1; ++set, sums += sets.size * s.co) {
    const int64_t offset_d = set / s.kw / s.kh * s.dilation_d - s.pad_front,
                  offset_h = set / s.kw % s.kh * s.dilation_h - s.pad_top,
                  offset_w = set % s.kw * s.dilation_w - s.pad_left;
    const Range across = valid(offset_w, s.stride_w, s.w, s.ow);
    int64_t count = 0;
    for (int64_t i = 0; i < line_count; ++i) {
      const Line& l = lines[i];
      const int64_t plane = l.d + offset_d, h = l.h + offset_h;
      const int64_t from = max64(l.begin, across.first), to = min64(l.end, across.last);
      if (plane < 0 || plane >= s.d || h < 0 || h >= s.h || from >= to) continue;
      const float* source = l.image + ((plane * s.h + h) * s.w + from * s.stride_w + offset_w) * channels;
      rows[count++] = {l.at, from - l.begin, to - from, l.end - to, source};
    }
    for (int64_t r = t.r0; r < t.r1; r += t.rows) {
      const int64_t height = min64(t.rows, t.r1 - r);
      int64_t parts = 0;
      float* dst = a_panel;
      for (int64_t i = 0; i < count; ++i) {
        const Row& row = rows[i];
        if (in_place) {
          starts[parts] = row.at + row.before;
          segments[parts++] = {row.from + r, nullptr, row.inside};
          continue;
        }
        const int64_t length = row.before + row.inside + row.after;
        if (parts > 0 && starts[parts - 1] + segments[parts - 1].length == row.at) {
          segments[parts - 1].length += length;
        } else {
          starts[parts] = row.at;
          segments[parts++] = {dst, nullptr, length};
        }
        dst = pack_zeros(row.before * height, dst);
        dst = pack_pixels(row.from + r, step, row.inside, height, dst);
        dst = pack_zeros(row.after * height, dst);
      }
      for (int64_t j = t.j0; j < t.j1; j += kPanel) {
        const int64_t width = min64(kPanel, t.j1 - j);
        for (int64_t i = 0; i < parts; ++i) segments[i].b = b_panel + (j - t.j0) * kBandPixels + starts[i] * width;
        const TileArgs tile{segments, parts, 1, in_place ? step : height, width, sums + r * s.co + j, s.co, accumulate};
        ask_for_rows(tile.c + kPanel, s.co, height, min64(kPanel, t.j1 - j - kPanel));
        if (width <= W)
          run_single_tile(static_cast<int>(height), static_cast<int>(width), tile);
        else
          run_tile(static_cast<int>(height), width, tile);
      }
    }
  }
}

// The sums of image blocks stand side by side where they are small, so that blocks are tasks of their own; otherwise a
// task takes its blocks one after the other and adds each to the first.
int64_t blocks_of(const ConvShape& s) { return min64(s.n, 8); }
bool blocks_apart(const ConvShape& s) { return blocks_of(s) * weights(s) <= kApartFloats; }
int64_t sum_buffers(const ConvShape& s) { return blocks_apart(s) ? blocks_of(s) : min64(2, s.n); }

void add(const ConvShape& s, float* total, const float* part, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, total += s.co, part += s.co) {
    int64_t c = 0;
    for (; c + W <= cols; c += W) store(total + c, load(total + c) + load(part + c));
    for (; c < cols; ++c) total[c] += part[c];
  }
}

void sum_block(const ConvShape& s, const Sets& sets, const float* x, const float* dy, const Task& t, int64_t block,
               float* sums) {
  const int64_t images = ceil_div(s.n, blocks_of(s));
  const int64_t unit = s.od * s.oh * (sets.padded ? 1 : s.ow);  // bands are cut between rows or anywhere
  const int64_t band = sets.padded ? max64(1, kBandPixels / s.ow) : kBandPixels;
  const int64_t begin = block * images * unit, last = min64(s.n, (block + 1) * images) * unit;
  for (int64_t at = begin; at < last; at += band)
    (sets.padded ? band_direct : band_packed)(s, sets, x, dy, t, at, min64(last, at + band), sums, at > begin);
}

void dense(const ConvShape& s, const float* x, const float* dy, float* sums) {
  const Sets sets = sets_of(s);
  const int64_t most = sets.padded ? kFewTileRows : s.co <= W ? kSingleRows : kTileRows;
  const int64_t tiles = ceil_div(sets.size, most), rows = ceil_div(sets.size, tiles);
  const int64_t task_rows = even(tiles, kRowsATask / most) * rows, task_cols = kPanel * kPanelsATask;
  const int64_t across = ceil_div(s.co, task_cols), down = ceil_div(sets.size, task_rows);
  // With few pixels a block, sums that the cache does not hold would pass by for each.
  const bool few = !sets.padded && ceil_div(s.n, blocks_of(s)) * s.out_size() < 4 * kBandPixels;
  const int64_t task_sets =
      few ? even(sets.count, max64(1, kTaskFloats / (min64(sets.size, task_rows) * min64(s.co, task_cols))))
          : sets.count;
  const int64_t runs = ceil_div(sets.count, task_sets), parts = s.groups * across * down * runs;
  // The last blocks can be empty: 9 images make blocks of 2, of which there are 5.
  const int64_t blocks = ceil_div(s.n, ceil_div(s.n, blocks_of(s))), size = weights(s), buffer = lines(size);
  const bool apart = blocks_apart(s);
  parallel_for(apart ? parts * blocks : parts, size / W * s.n * s.out_size(), [&](int64_t index) {
    const int64_t part = index % parts, r0 = part % down * task_rows, j0 = part / down % across * task_cols;
    const int64_t s0 = part / (down * across) % runs * task_sets, s1 = min64(sets.count, s0 + task_sets);
    const Task t{part / (down * across * runs), s0,  s1, r0, min64(sets.size, r0 + task_rows), j0,
                 min64(s.co, j0 + task_cols),   rows};
    const int64_t base = t.group * sets.count * sets.size * s.co;
    const float* from_x = x + t.group * s.ci;
    const float* from_dy = dy + t.group * s.co;
    if (apart) {
      sum_block(s, sets, from_x, from_dy, t, index / parts, sums + index / parts * buffer + base);
      return;
    }
    sum_block(s, sets, from_x, from_dy, t, 0, sums + base);
    for (int64_t block = 1; block < blocks; ++block) {
      sum_block(s, sets, from_x, from_dy, t, block, sums + buffer + base);
      for (int64_t set = s0; set < s1; ++set) {
        float* total = sums + base + (set * sets.size + t.r0) * s.co + t.j0;
        add(s, total, total + buffer, t.r1 - t.r0, t.j1 - t.j0);
      }
    }
  });
  if (!apart || blocks == 1) return;
  const int64_t lines_of_co = size / s.co, piece = 64;
  parallel_for(ceil_div(lines_of_co, piece), size * blocks, [&](int64_t chunk) {
    float* total = sums + chunk * piece * s.co;
    for (int64_t block = 1; block < blocks; ++block)
      add(s, total, total + block * buffer, min64(piece, lines_of_co - chunk * piece), s.co);
  });
}

// Each channel with its own weights: four vectors of channels at a time; a row of images meets all its taps in turn,
// while it lies in the cache. Sums are [block][tap][channel].
template <bool Partial>
void depthwise_row(const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t length, int64_t lanes,
                   float* sums) {
  constexpr int V = kDepthVectors;
  int n[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) n[v] = Partial ? static_cast<int>(max64(0, min64(W, lanes - v * W))) : W;
  VF acc[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) acc[v] = Partial ? load_partial(sums + v * W, n[v]) : load(sums + v * W);
  for (; length > 0; --length, a += a_step, b += b_step) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const VF x = Partial ? load_partial(a + v * W, n[v]) : load(a + v * W);
      acc[v] = fma(x, Partial ? load_partial(b + v * W, n[v]) : load(b + v * W), acc[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    if (Partial)
      store_partial(sums + v * W, acc[v], n[v]);
    else
      store(sums + v * W, acc[v]);
  }
}

void depthwise(const ConvShape& s, const float* x, const float* dy, float* sums, float* dw) {
  constexpr int64_t kColumns = kDepthVectors * W;
  const int64_t channels = s.groups, taps = s.taps(), size = taps * channels;
  const int64_t images = ceil_div(s.n, blocks_of(s)), blocks = ceil_div(s.n, images),
                parts = ceil_div(channels, kColumns);
  parallel_for(parts * blocks, size / W * s.n * s.out_size() * 2, [&](int64_t task) {
    const int64_t c0 = task % parts * kColumns, lanes = min64(kColumns, channels - c0), block = task / parts;
    float* own = sums + block * size + c0;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < lanes; ++c) own[tap * channels + c] = 0;
    const int64_t last = min64(s.n, (block + 1) * images) * s.od * s.oh;
    for (int64_t row = block * images * s.od * s.oh; row < last; ++row) {
      if (has_depthwise_weight(s)) {
        for (int64_t c = c0; c < c0 + lanes; c += W)
          depthwise_weight_row(s, x + row / s.oh * s.h * s.w * channels + c, dy + row * s.ow * channels + c, row % s.oh,
                               static_cast<int>(min64(W, c0 + lanes - c)), own + c - c0);
        continue;
      }
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t plane = row / s.oh % s.od * s.stride_d + tap / s.kw / s.kh * s.dilation_d - s.pad_front;
        const int64_t in = row % s.oh * s.stride_h + tap / s.kw % s.kh * s.dilation_h - s.pad_top;
        const int64_t offset_w = tap % s.kw * s.dilation_w - s.pad_left;
        const Range across = valid(offset_w, s.stride_w, s.w, s.ow);
        if (plane < 0 || plane >= s.d || in < 0 || in >= s.h || across.first >= across.last) continue;
        const int64_t from =
            ((row / s.oh / s.od * s.d + plane) * s.h + in) * s.w + across.first * s.stride_w + offset_w;
        (lanes == kColumns ? depthwise_row<false>
                           : depthwise_row<true>)(x + from * channels + c0, s.stride_w * channels,
                                                  dy + (row * s.ow + across.first) * channels + c0, channels,
                                                  across.last - across.first, lanes, own + tap * channels);
      }
    }
  });
  for (int64_t block = 1; block < blocks; ++block)
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[block * size + i];
  transpose(sums, channels, taps, channels, dw, taps);
}

}  // namespace

size_t workspace_weight(const ConvShape& s) {
  if (is_depthwise(s)) return static_cast<size_t>(blocks_of(s) * weights(s)) * sizeof(float);
  if (is_shuffled(s)) return workspace_weight_shuffled(s);
  if (is_weight_product(s)) return workspace_weight_product(s);
  return static_cast<size_t>(sum_buffers(s) * lines(weights(s)) + (few_channels(s) ? padded_floats(s) : 0)) *
         sizeof(float);
}

void backward_weight(const ConvShape& s, const float* x, const float* dy, float* dw, void* workspace) {
  if (weights(s) == 0) return;
  if (s.n * s.out_size() == 0) {
    for (int64_t i = 0; i < weights(s); ++i) dw[i] = 0;
    return;
  }
  if (is_depthwise(s)) {
    depthwise(s, x, dy, static_cast<float*>(workspace), dw);
    return;
  }
  if (is_weight_product(s)) {
    backward_weight_product(s, x, dy, dw, workspace);
    return;
  }
  float* sums = static_cast<float*>(workspace);
  if (is_shuffled(s)) {
    backward_weight_shuffled(s, x, dy, sums, dw);
    return;
  }
  if (few_channels(s)) {
    float* padded = sums + sum_buffers(s) * lines(weights(s));
    pad_images(s, x, padded);
    x = padded;
  }
  dense(s, x, dy, sums);
  scatter(s, sums, dw);
}

}  // namespace dlcore::DLCORE_ISA
