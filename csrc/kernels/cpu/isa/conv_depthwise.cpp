// Depthwise convolution: each channel by its own weights. Forward and backward-data hold a few neighbouring pixels of
// one vector of channels in registers and slide the window over them, so that a source pixel is loaded once for a whole
// row of taps; backward-weight holds the taps instead, and slides over the gradients.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_rows.h"

namespace dlcore::DLCORE_ISA {
namespace {

// Pixels at once: 8 sums, the weights of a row, and a source. Of AVX2's 16 registers seven weights are one too many.
constexpr int kNear = 8;
// Sums of weights: so many leave registers for several gradients at once. A short row, which has few of them, takes as
// many sums as there are registers.
constexpr int kSumsTogether = 10, kSums = W == 16 ? 25 : kSumsTogether, kShortRow = 16;

// A block of channels: `count` of the `all` of a pixel, which is what rows of weights [tap][channel] hold as well.
struct Channels {
  const float* weights;
  int64_t all, count;
};

template <bool Partial>
DLCORE_INLINE VF take(const float* p, int lanes) {
  return Partial ? load_partial(p, lanes) : load(p);
}

// body(c) for each vector of channels. A last one overlaps the one before, the same values once more and cheaper than a
// masked vector, unless it would add to them twice: those channels are then left to any_tile<J, true>.
template <class Body>
DLCORE_INLINE void for_vectors(const RowRun& run, const Channels& channels, Body body) {
  int64_t c = 0;
  for (; c + W <= channels.count; c += W) body(c);
  if (c < channels.count && c > 0 && !run.accumulate) body(channels.count - W);
}
bool leaves_channels(const RowRun& run, const Channels& channels) {
  return channels.count % W != 0 && (channels.count < W || run.accumulate);
}

// What the next pixels write, and rows of the source that are needed soon, one line at a time.
struct Ahead {
  const float *out, *source;
  int64_t out_step, pixels, rows, row, source_pixels, source_step;
  Ahead(const RowRun& run, int64_t first, int64_t count)
      : out(run.out + (first + count) * run.out_step),
        source(run.ahead + first * run.ahead_pixels * run.ahead_step),
        out_step(run.out_step),
        pixels(count),
        rows(run.ahead_rows),
        row(run.ahead_row),
        source_pixels(count * run.ahead_pixels),
        source_step(run.ahead_step) {}
  DLCORE_INLINE void ask(int64_t c) const {
    if (c % 16 != 0) return;
    for (int64_t p = 0; p < pixels; ++p) __builtin_prefetch(out + p * out_step + c, 1);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t p = 0; p < source_pixels; ++p) __builtin_prefetch(source + r * row + p * source_step + c, 0, 2);
  }
};

// Any window: a load a product. Partial: the channels after the last whole vector.
template <int J, bool Partial>
void any_tile(const RowRun& run, int64_t first, const Channels& channels, const Ahead& ahead) {
  const int lanes = Partial ? static_cast<int>(channels.count % W) : W;
  const auto body = [&](int64_t c) DLCORE_LAMBDA {
    ahead.ask(c);
    float* out = run.out + first * run.out_step + c;
    VF acc[J];
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) acc[j] = run.accumulate ? take<Partial>(out + j * run.out_step, lanes) : VF{};
    for (int64_t t = 0; t < run.down * run.across; ++t) {
      const RowTap& tap = run.taps[t];
      const VF w = take<Partial>(channels.weights + tap.weight * channels.all + c, lanes);
      const float* x = tap.from + first * tap.step + c;
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) acc[j] = fma(take<Partial>(x + j * tap.step, lanes), w, acc[j]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
      if (Partial)
        store_partial(out + j * run.out_step, acc[j], lanes);
      else
        store(out + j * run.out_step, acc[j]);
    }
  };
  if (Partial)
    body(channels.count / W * W);
  else
    for_vectors(run, channels, body);
}

// A row of K neighbouring taps: the source pixel that the first tap of a tile's first pixel sees, `unit` from one to
// the next, and the weights, w_step apart.
struct SlideRow {
  const float *x, *w;
  int64_t unit, w_step;
};

// J pixels S apart (-1: from the last pixel down) by `down` rows of K taps: source i meets tap k of pixel (i - k) / S,
// so each pixel's taps ascend. Sources before `from` and from `to` on are outside the image, K - 1 at most at an end.
template <int J, int K, int S>
DLCORE_INLINE void slide(const SlideRow* rows, int64_t down, int64_t from, int64_t to, float* out, int64_t out_step,
                         bool accumulate, int64_t c) {
  constexpr int kColumns = (J - 1) * S + K;
  VF acc[J];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) acc[j] = accumulate ? load(out + j * out_step) : VF{};
  for (const SlideRow *row = rows, *end = rows + down; row < end; ++row) {
    const float *x = row->x + c, *weights = row->w + c;
    const int64_t unit = row->unit, w_step = row->w_step;
    VF w[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k, weights += w_step) w[k] = load(weights);
#pragma GCC unroll 32
    for (int i = 0; i < kColumns; ++i, x += unit) {
      const float* at = x;
      if (i < K - 1 || i > kColumns - K) {
        at = (i < K - 1 && i < from) || (i > kColumns - K && i >= to) ? kRowZeros + c : x;
        hold_address(at);
      }
      VF v = load(at);
      hold(v);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k)
        if (i >= k && (i - k) % S == 0 && (i - k) / S < J) acc[(i - k) / S] = fma(v, w[k], acc[(i - k) / S]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) store(out + j * out_step, acc[j]);
}

template <int J, int K, int Direction>
void slide_tile(const RowRun& run, int64_t first, const Channels& channels, const Ahead& ahead) {
  constexpr int S = Direction < 0 ? 1 : Direction, kSign = Direction < 0 ? -1 : 1;
  if (Direction < 0) first += J - 1;
  SlideRow rows[kRowTaps / K];
  for (int64_t t = 0; t < run.down; ++t) {
    const RowTap* tap = run.taps + t * K;
    rows[t] = {tap->from + first * tap->step, channels.weights + tap->weight * channels.all, kSign * tap->step / S,
               (tap[1].weight - tap->weight) * channels.all};
  }
  float* const out = run.out + first * run.out_step;
  for_vectors(run, channels, [&](int64_t c) DLCORE_LAMBDA {
    ahead.ask(c);
    slide<J, K, S>(rows, run.down, 0, INT64_MAX, out + c, kSign * run.out_step, run.accumulate, c);
  });
}

// f<K, Direction>() for the windows that `slide` is made for, or f<0, 0>().
template <class F>
auto for_window(int64_t direction, int64_t across, F f) {
  if (direction == 1) {
    if (across == 2) return f.template operator()<2, 1>();
    if (across == 3) return f.template operator()<3, 1>();
    if (across == 5) return f.template operator()<5, 1>();
    if (across == 7) return f.template operator()<7, 1>();
  } else if (direction == -1) {
    if (across == 2) return f.template operator()<2, -1>();
    if (across == 3) return f.template operator()<3, -1>();
    if (across == 5) return f.template operator()<5, -1>();
    if (across == 7) return f.template operator()<7, -1>();
  } else if (direction == 2) {
    if (across == 3) return f.template operator()<3, 2>();
    if (across == 5) return f.template operator()<5, 2>();
  }
  return f.template operator()<0, 0>();
}

using TileFn = void (*)(const RowRun&, int64_t, const Channels&, const Ahead&);

template <int J>
TileFn tile_for(const RowRun& run) {
  return for_window(run.stride, run.across, []<int K, int Direction>() -> TileFn {
    if constexpr (K > 0)
      return slide_tile<J, K, Direction>;
    else
      return any_tile<J, false>;
  });
}

void run_pixels(const RowRun& run, const Channels& channels) {
  const TileFn many = tile_for<kNear>(run), half = tile_for<kNear / 2>(run);
  const bool rest = leaves_channels(run, channels);
  for (int64_t j = 0; j < run.count;) {
    // A last tile overlaps the one before: the same values once more.
    if (!run.accumulate && run.count - j < kNear && run.count >= kNear)
      j = run.count - kNear;
    else if (!run.accumulate && run.count - j < kNear / 2 && run.count >= kNear / 2)
      j = run.count - kNear / 2;
    const int64_t left = run.count - j;
    const int64_t n = left >= kNear ? kNear : left >= kNear / 2 ? kNear / 2 : 1;
    const Ahead ahead(run, j, n);
    (n == kNear ? many : n == 1 ? any_tile<1, false> : half)(run, j, channels, ahead);
    if (rest)
      (n == kNear ? any_tile<kNear, true>
       : n == 1   ? any_tile<1, true>
                  : any_tile<kNear / 2, true>)(run, j, channels, ahead);
    j += n;
  }
}

// Planes whose taps are neighbours go without a ring: rows outside the image are zeros, and columns outside it are left
// to `slide`. This does rows [first, last) of `n` channels from c0 on.
struct Planes {
  const PointConv& conv;
  int64_t channels, first, last, c0, n;
  const float* source;
  float* dest;
};

// J pixels of a row at once; a last tile overlaps the one before.
template <int J, int K, int Direction>
void slide_rows(const Planes& p) {
  constexpr int S = Direction < 0 ? 1 : Direction, kSign = Direction < 0 ? -1 : 1;
  const PointConv& conv = p.conv;
  const ConvPhase& phase = conv.map->phases[0];
  const ConvTap* taps = phase.taps;
  const int64_t channels = p.channels, row_floats = conv.source_w * channels, down = phase.tap_count / K;
  const int64_t last_row = max64(taps[0].offset_h, taps[phase.tap_count - 1].offset_h);
  for (int64_t h = p.first; h < p.last; ++h) {
    const int64_t top = h * phase.h.source, soon = top + last_row + 1;
    const int64_t more = max64(0, min64(phase.h.source, conv.source_h - soon));  // rows that the next one sees first
    for (int64_t t = 0; t * J < phase.w.count; ++t) {
      const int64_t j = min64(t * J, phase.w.count - J), at = Direction < 0 ? j + J - 1 : j;
      const int64_t column = at * S + taps[0].offset_w;
      const int64_t from = max64(0, Direction < 0 ? column - conv.source_w + 1 : -column);
      const int64_t to = Direction < 0 ? column + 1 : conv.source_w - column;
      SlideRow rows[kRowTaps / K];
      for (int64_t r = 0; r < down; ++r) {
        const ConvTap* tap = taps + r * K;
        const int64_t y = top + tap->offset_h;
        const bool inside = y >= 0 && y < conv.source_h;
        rows[r] = {inside ? p.source + (y * conv.source_w + column) * channels + p.c0 : kRowZeros,
                   conv.weights + tap->index * channels + p.c0, inside ? kSign * channels : 0,
                   (tap[1].index - tap->index) * channels};
      }
      const float* next = p.source + soon * row_floats + j * S * channels + p.c0;
      float* out = p.dest + (h * conv.dest_w + at) * channels + p.c0;
      const auto body = [&](int64_t c) DLCORE_LAMBDA {
        if (h + 1 < p.last && c % 16 == 0) {
#pragma GCC unroll 16
          for (int i = 0; i < J; ++i) __builtin_prefetch(out + conv.dest_w * channels + kSign * i * channels + c, 1);
        }
        for (int64_t r = 0; r < more && c % 16 == 0; ++r) {
#pragma GCC unroll 16
          for (int i = 0; i < J * S; ++i) __builtin_prefetch(next + r * row_floats + i * channels + c, 0, 2);
        }
        slide<J, K, S>(rows, down, from, to, out + c, kSign * channels, false, c);
      };
      int64_t c = 0;
      for (; c + W <= p.n; c += W) body(c);
      if (c < p.n) body(p.n - W);
    }
  }
}

using PlaneFn = void (*)(const Planes&);
// Null: the rows need the ring, or go pixel by pixel at the edges.
PlaneFn plane_for(const PointConv& conv, int64_t channels) {
  if (conv.map->count != 1 || conv.source_d * conv.dest_d != 1) return nullptr;
  if (channels < W || (channels % kRowChannels > 0 && channels % kRowChannels < W)) return nullptr;
  const ConvPhase& phase = conv.map->phases[0];
  const int64_t across = taps_across(phase), stride = phase.w.source;
  if (phase.w.count < kNear / 2 || across < 2 || phase.tap_count > kRowTaps) return nullptr;
  const auto [left, right] = columns_of(conv);
  if (left <= -across || right - conv.source_w >= across - 1) return nullptr;
  const int64_t gap = phase.taps[1].offset_w - phase.taps[0].offset_w;
  const int64_t count = phase.w.count;
  return for_window(gap == 1             ? stride
                    : gap * stride == -1 ? -1
                                         : 0,
                    across, [count]<int K, int Direction>() -> PlaneFn {
                      if constexpr (K > 0) {
                        if (count % kNear != 0 && count % 7 == 0) return slide_rows<7, K, Direction>;  // none twice
                        return count >= kNear ? slide_rows<kNear, K, Direction> : slide_rows<kNear / 2, K, Direction>;
                      } else
                        return nullptr;
                    });
}

// Sums of `rows` rows of K taps over one row of gradients, the taps' pixels `stride` and `dilation` columns apart.
struct WeightRow {
  const float* x;  // column `offset` (maybe outside) of the first row of taps
  int64_t row;     // from one row of taps to the next
  const float* dy;
  int64_t channels, outputs, stride, dilation, offset, width;
  float* sums;  // [tap][channel]
  int lanes;
  int64_t next_dy, next_x;
};

// `pixels` gradients from dy on, as many at a time as the registers hold, whose taps see neighbouring columns S apart:
// each is loaded once.
template <int R, int K, int S, bool Partial>
DLCORE_INLINE void add_together(VF (&acc)[R][K], const WeightRow& a, const float*& x, const float*& dy,
                                int64_t pixels) {
  constexpr int kTogether = W == 16 && R * K <= 9 ? 4 : 2;  // of four by ten sums GCC 12 keeps one in memory
  const int64_t channels = a.channels, row = a.row;
  for (; pixels >= kTogether; pixels -= kTogether, x += kTogether * S * channels, dy += kTogether * channels) {
    VF d[kTogether];
    const float *at = dy, *soon = dy + a.next_dy;
#pragma GCC unroll 4
    for (int p = 0; p < kTogether; ++p, at += channels, soon += channels) {
      d[p] = take<Partial>(at, a.lanes);
      __builtin_prefetch(soon, 0, 2);
    }
    soon = x + a.next_x;
#pragma GCC unroll 8
    for (int p = 0; p < kTogether * S; ++p, soon += channels) __builtin_prefetch(soon, 0, 2);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float* from = x + r * row;
#pragma GCC unroll 16
      for (int i = 0; i < (kTogether - 1) * S + K; ++i, from += channels) {
        VF v = take<Partial>(from, a.lanes);
        hold(v);
#pragma GCC unroll 4
        for (int p = 0; p < kTogether; ++p)
          if (i >= p * S && i - p * S < K) acc[r][i - p * S] = fma(v, d[p], acc[r][i - p * S]);
      }
    }
  }
}

template <int R, int K, bool Partial>
void weight_row(const WeightRow& a) {
  VF acc[R][K];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) acc[r][k] = take<Partial>(a.sums + (r * K + k) * a.channels, a.lanes);
  }
  const int64_t step = a.stride * a.channels, gap = a.dilation * a.channels, row = a.row, span = (K - 1) * a.dilation;
  const float* x = a.x;
  const float* dy = a.dy;
  int64_t column = a.offset;
  const float* end = dy + a.outputs * a.channels;
  const auto edge = [&]() __attribute__((always_inline)) {
    const VF d = take<Partial>(dy, a.lanes);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const int64_t at = column + k * a.dilation;
      if (at < 0 || at >= a.width) continue;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][k] = fma(take<Partial>(x + r * row + k * gap, a.lanes), d, acc[r][k]);
    }
    x += step;
    dy += a.channels;
    column += a.stride;
  };
  while (dy < end && column < 0) edge();
  if (R * K <= kSumsTogether && a.dilation == 1 && a.stride <= 2 && dy < end) {
    const int64_t left = (end - dy) / a.channels, seen = (a.width - span - 1 - column) / a.stride + 1;
    const float* const before = dy;
    if (a.stride == 1)
      add_together<R, K, 1, Partial>(acc, a, x, dy, min64(left, seen));
    else
      add_together<R, K, 2, Partial>(acc, a, x, dy, min64(left, seen));
    column += (dy - before) / a.channels * a.stride;
  }
  for (; dy < end && column + span < a.width; x += step, dy += a.channels, column += a.stride) {
    const VF d = take<Partial>(dy, a.lanes);
    // Pixels lie further apart than the hardware looks ahead: the next rows' are asked for here.
    __builtin_prefetch(dy + a.next_dy);
    __builtin_prefetch(x + a.next_x);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) acc[r][k] = fma(take<Partial>(x + r * row + k * gap, a.lanes), d, acc[r][k]);
    }
  }
  while (dy < end) edge();
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      if (Partial)
        store_partial(a.sums + (r * K + k) * a.channels, acc[r][k], a.lanes);
      else
        store(a.sums + (r * K + k) * a.channels, acc[r][k]);
    }
  }
}

template <int R, int K>
void weight_rows(const WeightRow& a) {
  (a.lanes < W ? weight_row<R, K, true> : weight_row<R, K, false>)(a);
}

template <int K>
int64_t weight_group(const WeightRow& a, int64_t rows) {
  const auto takes = [&](int r) { return rows >= r && r * K <= (a.outputs < kShortRow ? kSums : kSumsTogether); };
  if constexpr (5 * K <= kSums) {
    if (takes(5)) return weight_rows<5, K>(a), 5;
  }
  if constexpr (3 * K <= kSums) {
    if (takes(3)) return weight_rows<3, K>(a), 3;
  }
  if constexpr (2 * K <= kSums) {
    if (takes(2)) return weight_rows<2, K>(a), 2;
  }
  return weight_rows<1, K>(a), 1;
}

}  // namespace

void run_points_depthwise(const PointConv& whole) {
  PointConv conv = whole;  // all channels of a pixel stand together, as one group's would
  conv.groups = 1;
  conv.source_channels = conv.dest_channels = whole.groups;
  const int64_t channels = whole.groups;
  Ring ring = ring_of(conv, channels, W);
  // Where a row of the source is seen by fewer than two rows of pixels, copying it costs more than it spares.
  if (conv.map->count > 0 && ring.rows < 2 * conv.map->phases[0].h.source) ring.width = 0;
  const PlaneFn slide_plane = plane_for(conv, channels);
  const int64_t block = ring.width && !slide_plane ? ring.channels : kRowChannels;
  // A chunk is as many rows of an image as make the window's rows that chunks share weigh little.
  const int64_t chunk_rows = even(conv.dest_h, max64(4 * ring.rows, 65536 / max64(1, conv.dest_w * channels)));
  const int64_t chunks = ceil_div(conv.dest_h, chunk_rows), planes = conv.n * conv.dest_d;
  parallel_for(planes * chunks, planes * conv.dest_h * conv.dest_w * ceil_div(channels, W) * (conv.taps + 2),
               [&](int64_t chunk) {
                 const int64_t plane = chunk / chunks, first = chunk % chunks * chunk_rows;
                 const int64_t last = min64(conv.dest_h, first + chunk_rows);
                 const float* source =
                     conv.source + plane / conv.dest_d * conv.source_d * conv.source_h * conv.source_w * channels;
                 float* dest = conv.dest + plane * conv.dest_h * conv.dest_w * channels;
                 for (int64_t c = 0; c < channels; c += block) {
                   const int64_t n = min64(block, channels - c);
                   const auto body = [&](const RowRun& run) { run_pixels(run, {conv.weights + c, channels, n}); };
                   if (slide_plane) {
                     slide_plane({conv, channels, first, last, c, n, source, dest});
                   } else if (ring.width) {
                     for_rows(conv, ring, first, last, source + c, channels, n, dest + c, channels, body);
                   } else {
                     for (int64_t h = first; h < last; ++h)
                       for_row(conv, plane % conv.dest_d, h, source + c, channels, dest + c, channels, body);
                   }
                 }
                 if (conv.epilogue)
                   conv.epilogue->range(*conv.epilogue, (plane * conv.dest_h + first) * conv.dest_w * channels,
                                        (last - first) * conv.dest_w * channels);
               });
}

bool has_depthwise_weight(const ConvShape& s) { return is_flat(s) && (s.kw <= 3 || s.kw == 5 || s.kw == 7); }

// Adds a row of gradients to the sums [tap][channel] of one vector of channels, whose first x, dy and sums point to.
void depthwise_weight_row(const ConvShape& s, const float* x, const float* dy, int64_t oh, int lanes, float* sums) {
  const int64_t channels = s.groups, top = oh * s.stride_h - s.pad_top;
  int64_t k = 0, last = s.kh;
  while (k < last && top + k * s.dilation_h < 0) ++k;
  while (last > k && top + (last - 1) * s.dilation_h >= s.h) --last;
  while (k < last) {
    const WeightRow a{x + ((top + k * s.dilation_h) * s.w - s.pad_left) * channels,
                      s.dilation_h * s.w * channels,
                      dy,
                      channels,
                      s.ow,
                      s.stride_w,
                      s.dilation_w,
                      -s.pad_left,
                      s.w,
                      sums + k * s.kw * channels,
                      lanes,
                      s.ow * channels,
                      ((last - 1 - k) * s.dilation_h + s.stride_h) * s.w * channels};
    switch (s.kw) {
      case 1:
        k += weight_group<1>(a, last - k);
        break;
      case 2:
        k += weight_group<2>(a, last - k);
        break;
      case 3:
        k += weight_group<3>(a, last - k);
        break;
      case 5:
        k += weight_group<5>(a, last - k);
        break;
      default:
        k += weight_group<7>(a, last - k);
    }
  }
}

}  // namespace dlcore::DLCORE_ISA
