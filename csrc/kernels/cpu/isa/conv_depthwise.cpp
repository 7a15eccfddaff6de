// Depthwise convolution: each channel by its own weights. Forward and backward-data hold a few neighbouring pixels of
// one vector of channels in registers and slide the window over them, so that a source pixel is loaded once for a whole
// row of taps; backward-weight holds the taps instead, and slides over the gradients.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_rows.h"

namespace dlcore::DLCORE_ISA {
namespace {

#ifdef __AVX512F__
constexpr int kNear = 8;  // pixels at once: 8 sums, at most 7 weights of a row and a source in 32 registers
constexpr int kGradients = 25;
#else
constexpr int kNear = 4;
constexpr int kGradients = 9;  // sums of weights at once
#endif

struct Lane {
  const float* weights;  // [tap][channel]
  int64_t channels;      // of the image
  int64_t c;
  int lanes;
};

template <bool Partial>
DLCORE_INLINE VF take(const float* p, int lanes) {
  return Partial ? load_partial(p, lanes) : load(p);
}

// Any window: a load a product.
template <int J, bool Partial>
void any_tile(const RowRun& run, int64_t first, const Lane& l) {
  float* out = run.out + first * run.out_step + l.c;
  VF acc[J];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) acc[j] = run.accumulate ? take<Partial>(out + j * run.out_step, l.lanes) : VF{};
  for (int64_t t = 0; t < run.down * run.across; ++t) {
    const RowTap& tap = run.taps[t];
    const VF w = take<Partial>(l.weights + tap.weight * l.channels + l.c, l.lanes);
    const float* x = tap.from + first * tap.step + l.c;
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) acc[j] = fma(take<Partial>(x + j * tap.step, l.lanes), w, acc[j]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) {
    if (Partial)
      store_partial(out + j * run.out_step, acc[j], l.lanes);
    else
      store(out + j * run.out_step, acc[j]);
  }
}

// K neighbouring taps a row, pixels S apart (-1: from the last pixel down): source i meets tap k of pixel (i - k) / S,
// so each pixel's taps ascend.
template <int J, int K, int Direction>
void slide_tile(const RowRun& run, int64_t first, const Lane& l) {
  constexpr int S = Direction < 0 ? 1 : Direction, kSign = Direction < 0 ? -1 : 1;
  if (Direction < 0) first += J - 1;
  const int64_t out_step = kSign * run.out_step;
  float* out = run.out + first * run.out_step + l.c;
  VF acc[J];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) acc[j] = run.accumulate ? load(out + j * out_step) : VF{};
  for (int64_t t = 0; t < run.down * K; t += K) {
    const RowTap* tap = run.taps + t;
    VF w[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) w[k] = load(l.weights + tap[k].weight * l.channels + l.c);
    const float* x = tap->from + first * tap->step + l.c;
    const int64_t unit = kSign * tap->step / S;
#pragma GCC unroll 32
    for (int i = 0; i < (J - 1) * S + K; ++i, x += unit) {
      VF v = load(x);
      asm("" : "+v"(v));  // loaded once, not with each product
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k)
        if (i >= k && (i - k) % S == 0 && (i - k) / S < J) acc[(i - k) / S] = fma(v, w[k], acc[(i - k) / S]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) store(out + j * out_step, acc[j]);
}

using TileFn = void (*)(const RowRun&, int64_t, const Lane&);

template <int J>
TileFn tile_for(const RowRun& run) {
  if (run.stride == 1) {
    if (run.across == 2) return slide_tile<J, 2, 1>;
    if (run.across == 3) return slide_tile<J, 3, 1>;
    if (run.across == 5) return slide_tile<J, 5, 1>;
    if (run.across == 7) return slide_tile<J, 7, 1>;
  } else if (run.stride == -1) {
    if (run.across == 2) return slide_tile<J, 2, -1>;
    if (run.across == 3) return slide_tile<J, 3, -1>;
    if (run.across == 5) return slide_tile<J, 5, -1>;
    if (run.across == 7) return slide_tile<J, 7, -1>;
  } else if (run.stride == 2) {
    if (run.across == 3) return slide_tile<J, 3, 2>;
    if (run.across == 5) return slide_tile<J, 5, 2>;
  }
  return any_tile<J, false>;
}

void run_pixels(const RowRun& run, const float* weights, int64_t channels, int64_t count) {
  const TileFn many = tile_for<kNear>(run), half = tile_for<kNear / 2>(run);
  for (int64_t j = 0; j < run.count;) {
    // A last tile overlaps the one before: the same values once more.
    if (!run.accumulate && run.count - j < kNear && run.count >= kNear)
      j = run.count - kNear;
    else if (!run.accumulate && run.count - j < kNear / 2 && run.count >= kNear / 2)
      j = run.count - kNear / 2;
    const int64_t left = run.count - j;
    const int64_t n = left >= kNear ? kNear : left >= kNear / 2 ? kNear / 2 : 1;
    const TileFn fn = n == kNear ? many : n == 1 ? any_tile<1, false> : half;
    const TileFn part = n == kNear ? any_tile<kNear, true> : n == 1 ? any_tile<1, true> : any_tile<kNear / 2, true>;
    Lane l{weights, channels, 0, W};
    const float* next_out = run.out + (j + n) * run.out_step;
    const float* ahead = run.ahead + j * run.ahead_step;
    for (; l.c + W <= count; l.c += W) {
      for (int64_t p = 0; p < n; ++p) {
        __builtin_prefetch(next_out + p * run.out_step + l.c, 1);
        __builtin_prefetch(ahead + p * run.ahead_step + l.c, 0, 2);
      }
      fn(run, j, l);
    }
    if (l.c < count && count >= W && !run.accumulate) {
      l.c = count - W;  // likewise, cheaper than a masked vector
      fn(run, j, l);
    } else if (l.c < count) {
      l.lanes = static_cast<int>(count - l.c);
      part(run, j, l);
    }
    j += n;
  }
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
  constexpr int kMost = kGradients / K;
  if constexpr (kMost >= 5) {
    if (rows >= 5) return weight_rows<5, K>(a), 5;
  }
  if constexpr (kMost >= 3) {
    if (rows >= 3) return weight_rows<3, K>(a), 3;
  }
  if constexpr (kMost >= 2) {
    if (rows >= 2) return weight_rows<2, K>(a), 2;
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
  const int64_t block = ring.width ? ring.channels : kRowChannels;
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
                   const auto body = [&](const RowRun& run) { run_pixels(run, conv.weights + c, channels, n); };
                   if (ring.width) {
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

bool has_depthwise_weight(const ConvShape& s) {
  return s.d == 1 && s.od == 1 && s.kd == 1 && (s.kw <= 3 || s.kw == 5 || s.kw == 7);
}

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
