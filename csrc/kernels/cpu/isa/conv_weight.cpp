// Backward-weight: for each tap a product of the pixels' inputs (transposed) with the pixels' gradients, both read in place.
// Images come in blocks whose sums are added in order (docs/ops.md); within a block the chain runs over bands of rows, small
// enough that a band of both tensors stays in the cache while all taps pass over it.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kBandPixels = 128;
constexpr int64_t kTilesATask = 4;

// A row set is the outputs that one stretch of input channels gives: a tap's channels, or, from a padded copy of images with
// few channels, those of a row of taps.
struct Sets {
  bool padded, whole_rows;
  int64_t count, size;
};
Sets sets_of(const ConvShape& s) {
  const bool padded = few_channels(s), whole_rows = padded && s.dilation_w == 1;
  return {padded, whole_rows, whole_rows ? s.kh : s.kh * s.kw, whole_rows ? s.kw * s.ci : s.ci};
}

int64_t weights(const ConvShape& s) { return s.groups * s.kh * s.kw * s.ci * s.co; }
int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Output positions first <= o < last for which o·stride + offset lies in [0, size).
struct Range {
  int64_t first, last;
};
Range valid(int64_t offset, int64_t stride, int64_t size, int64_t outputs) {
  const int64_t first = max64(0, -floor_div(offset, stride));
  return {first, max64(first, min64(outputs, floor_div(size - 1 - offset, stride) + 1))};
}

// The stretches of pixels of rows [first, last) of all images' output rows.
int64_t segments_of(const ConvShape& s, const Sets& sets, const float* x, const float* dy, int64_t set, int64_t first,
                    int64_t last, Segment* segments) {
  const int64_t kh = sets.whole_rows ? set : set / s.kw, kw = sets.whole_rows ? 0 : set % s.kw;
  const int64_t channels = s.groups * s.ci, outputs = s.groups * s.co;
  const int64_t offset_h = kh * s.dilation_h - (sets.padded ? 0 : s.pad_top);
  const int64_t offset_w = kw * s.dilation_w - (sets.padded ? 0 : s.pad_left);
  const int64_t h = sets.padded ? padded_h(s) : s.h, w = sets.padded ? padded_w(s) : s.w;
  const Range across = valid(offset_w, s.stride_w, w, s.ow);
  const int64_t length = across.last - across.first;
  if (length == 0) return 0;
  int64_t count = 0;
  for (int64_t row = first; row < last; ++row) {
    const int64_t in = row % s.oh * s.stride_h + offset_h;
    if (in < 0 || in >= h) continue;
    const float* a = x + ((row / s.oh * h + in) * w + across.first * s.stride_w + offset_w) * channels;
    const float* b = dy + (row * s.ow + across.first) * outputs;
    if (count && segments[count - 1].b + segments[count - 1].length * outputs == b &&
        segments[count - 1].a + segments[count - 1].length * s.stride_w * channels == a)
      segments[count - 1].length += length;
    else
      segments[count++] = {a, b, length};
  }
  return count;
}

// dw (O, I, taps) from the sums [group][tap][I][O].
void scatter(const ConvShape& s, const float* sums, float* dw) {
  const int64_t taps = s.kh * s.kw, parts = ceil_div(s.co, W);
  parallel_for(s.groups * parts, weights(s), [&](int64_t chunk) {
    const int64_t group = chunk / parts, o = chunk % parts * W;
    const float* src = sums + group * taps * s.ci * s.co + o;
    float* dst = dw + (group * s.co + o) * s.ci * taps;
    const int64_t lanes = min64(W, s.co - o);
    if (taps == 1) {
      transpose(src, s.co, s.ci, lanes, dst, s.ci);
    } else {
      for (int64_t c = 0; c < s.ci; ++c) transpose(src + c * s.co, s.ci * s.co, taps, lanes, dst + c * taps, s.ci * taps);
    }
  });
}

void add_blocks(const ConvShape& s, float* total, const float* part, int64_t begin, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = begin + r * s.co;
    int64_t c = 0;
    for (; c + W <= cols; c += W) store(total + at + c, load(total + at + c) + load(part + at + c));
    for (; c < cols; ++c) total[at + c] += part[at + c];
  }
}

void dense(const ConvShape& s, const float* x, const float* dy, float* total, float* part) {
  const Sets sets = sets_of(s);
  const int64_t tiles = ceil_div(sets.size, kTileRows), rows = ceil_div(sets.size, tiles);
  const int64_t across = ceil_div(s.co, kPanel), down = ceil_div(tiles, kTilesATask);
  const int64_t tasks = s.groups * sets.count * across * down;
  const int64_t blocks = min64(s.n, 8), images = ceil_div(s.n, blocks);
  const int64_t band = max64(1, kBandPixels / s.ow);
  const int64_t row_step = s.stride_w * s.groups * s.ci;
  parallel_for(tasks, weights(s) / W * s.n * s.oh * s.ow, [&](int64_t task) {
    const int64_t r0 = task % down * kTilesATask * rows, j = task / down % across * kPanel;
    const int64_t set = task / (down * across) % sets.count, group = task / (down * across * sets.count);
    const int64_t last_row = min64(sets.size, r0 + kTilesATask * rows), width = min64(kPanel, s.co - j);
    const int64_t base = (group * sets.count + set) * sets.size * s.co + j;
    Segment segments[kBandPixels], shifted[kBandPixels];
    for (int64_t block = 0; block * images < s.n; ++block) {
      float* sums = block ? part : total;
      const int64_t last = min64(s.n, (block + 1) * images) * s.oh;
      bool started = false;
      for (int64_t row = block * images * s.oh; row < last; row += band) {
        const int64_t count = segments_of(s, sets, x + group * s.ci, dy + group * s.co + j, set, row, min64(last, row + band),
                                          segments);
        if (count == 0 && started) continue;
        for (int64_t r = r0; r < last_row; r += rows) {
          for (int64_t i = 0; i < count; ++i) shifted[i] = {segments[i].a + r, segments[i].b, segments[i].length};
          run_tile(static_cast<int>(min64(rows, last_row - r)), width,
                   {shifted, count, 1, row_step, s.groups * s.co, sums + base + r * s.co, s.co, started});
        }
        started = true;
      }
      if (block) add_blocks(s, total, part, base + r0 * s.co, last_row - r0, width);
    }
  });
}

// Each channel with its own weights: four vectors of channels at a time, tap by tap.
void depthwise(const ConvShape& s, const float* x, const float* dy, float* dw) {
  constexpr int V = 4;
  const int64_t channels = s.groups, taps = s.kh * s.kw;
  const int64_t parts = ceil_div(channels, V * W), blocks = min64(s.n, 8), images = ceil_div(s.n, blocks);
  parallel_for(taps * parts, taps * channels / W * s.n * s.oh * s.ow * 2, [&](int64_t task) {
    const int64_t tap = task / parts, c0 = task % parts * V * W;
    const int64_t offset_h = tap / s.kw * s.dilation_h - s.pad_top, offset_w = tap % s.kw * s.dilation_w - s.pad_left;
    const Range across = valid(offset_w, s.stride_w, s.w, s.ow), down = valid(offset_h, s.stride_h, s.h, s.oh);
    int lanes[V];
    for (int v = 0; v < V; ++v) lanes[v] = static_cast<int>(max64(0, min64(W, channels - c0 - v * W)));
    VF total[V] = {};
    for (int64_t block = 0; block * images < s.n; ++block) {
      VF acc[V] = {};
      const int64_t last = min64(s.n, (block + 1) * images);
      for (int64_t image = block * images; image < last; ++image) {
        for (int64_t o = down.first; o < down.last; ++o) {
          const float* a = x + ((image * s.h + o * s.stride_h + offset_h) * s.w + across.first * s.stride_w + offset_w) *
                                   channels + c0;
          const float* b = dy + ((image * s.oh + o) * s.ow + across.first) * channels + c0;
          if (lanes[V - 1] == W) {
            for (int64_t i = across.first; i < across.last; ++i, a += s.stride_w * channels, b += channels) {
#pragma GCC unroll 4
              for (int v = 0; v < V; ++v) acc[v] = fma(load(a + v * W), load(b + v * W), acc[v]);
            }
          } else {
            for (int64_t i = across.first; i < across.last; ++i, a += s.stride_w * channels, b += channels) {
#pragma GCC unroll 4
              for (int v = 0; v < V; ++v)
                acc[v] = fma(load_partial(a + v * W, lanes[v]), load_partial(b + v * W, lanes[v]), acc[v]);
            }
          }
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) total[v] = block ? total[v] + acc[v] : acc[v];
    }
    for (int v = 0; v < V; ++v) {
      float out[W];
      store(out, total[v]);
      for (int i = 0; i < lanes[v]; ++i) dw[(c0 + v * W + i) * taps + tap] = out[i];
    }
  });
}

}  // namespace

size_t workspace_weight(const ConvShape& s) {
  if (is_depthwise(s)) return 0;
  return static_cast<size_t>(2 * lines(weights(s)) + (few_channels(s) ? padded_floats(s) : 0)) * sizeof(float);
}

void backward_weight(const ConvShape& s, const float* x, const float* dy, float* dw, void* workspace) {
  if (weights(s) == 0) return;
  if (s.n * s.oh * s.ow == 0) {
    for (int64_t i = 0; i < weights(s); ++i) dw[i] = 0;
    return;
  }
  if (is_depthwise(s)) {
    depthwise(s, x, dy, dw);
    return;
  }
  float* total = static_cast<float*>(workspace);
  float* part = total + lines(weights(s));
  if (few_channels(s)) {
    float* padded = part + lines(weights(s));
    pad_images(s, x, padded);
    x = padded;
  }
  dense(s, x, dy, total, part);
  scatter(s, total, dw);
}

}  // namespace dlcore::DLCORE_ISA
