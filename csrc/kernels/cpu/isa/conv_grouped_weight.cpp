// Backward-weight where a vector holds several groups: lanes are the groups' inputs, and a permutation hands each lane
// its group's gradient, one output after the other. A permuted gradient serves all taps of a row.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int kTaps = 3;  // of a row at once
#ifdef DLCORE_WIDE
constexpr int kOutputs = 4;
#else
constexpr int kOutputs = 2;
#endif

int64_t groups_a_vector(const ConvShape& s) { return W / max64(s.ci, s.co); }
int64_t vectors(const ConvShape& s) { return ceil_div(s.groups, groups_a_vector(s)); }
int64_t block_floats(const ConvShape& s) { return vectors(s) * s.taps() * s.co * W; }

// One row of gradients and the row of inputs that a row of taps sees.
struct Row {
  const float* x;                              // of the first tap at the first gradient, maybe outside: `column`
  int64_t column, width, stride, step, apart;  // apart: floats from one tap to the next; step: of x, a gradient
  const float* dy;
  int64_t count, channels, dilation;
  int64_t next_x, next_dy;
  VI base;  // lane's first gradient in the vector
  int inputs, outputs;
};

// Adds to sums [tap][output][lane], of `co` outputs, taps and outputs from the given ones.
template <int K, int O, bool Partial>
void row_of_taps(const Row& a, int64_t tap, int64_t output, int64_t co, float* sums) {
  sums += (tap * co + output) * W;
  VF acc[K][O];
  VI lane[O];
#pragma GCC unroll 4
  for (int o = 0; o < O; ++o) {
    lane[o] = a.base + static_cast<int32_t>(output + o);
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) acc[k][o] = load(sums + (k * co + o) * W);
  }
  const auto inputs = [&](const float* p) { return Partial ? load_partial(p, a.inputs) : load(p); };
  const int64_t stride = a.stride, step = a.step, apart = a.apart, channels = a.channels, span = (K - 1) * a.dilation;
  const float* x = a.x + tap * apart;
  const float* dy = a.dy;
  const float* end = dy + a.count * channels;
  int64_t column = a.column + tap * a.dilation;
  const auto edge = [&]() __attribute__((always_inline)) {
    const VF d = Partial ? load_partial(dy, a.outputs) : load(dy);
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      const int64_t at = column + k * a.dilation;
      if (at < 0 || at >= a.width) continue;
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) acc[k][o] = fma(inputs(x + k * apart), permute(d, lane[o]), acc[k][o]);
    }
    x += step;
    dy += channels;
    column += stride;
  };
  while (dy < end && column < 0) edge();
  for (; dy < end && column + span < a.width; x += step, dy += channels, column += stride) {
    const VF d = Partial ? load_partial(dy, a.outputs) : load(dy);
    // Pixels lie further apart than the hardware looks ahead: the next rows' are asked for here.
    __builtin_prefetch(dy + a.next_dy);
    __builtin_prefetch(x + a.next_x);
    VF own[O];
#pragma GCC unroll 4
    for (int o = 0; o < O; ++o) own[o] = permute(d, lane[o]);
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      const VF v = inputs(x + k * apart);
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) acc[k][o] = fma(v, own[o], acc[k][o]);
    }
  }
  while (dy < end) edge();
#pragma GCC unroll 4
  for (int o = 0; o < O; ++o) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) store(sums + (k * co + o) * W, acc[k][o]);
  }
}

using RowFn = void (*)(const Row&, int64_t, int64_t, int64_t, float*);
template <int O, bool Partial>
RowFn row_fn(int64_t taps) {
  return taps == 3 ? row_of_taps<3, O, Partial> : taps == 2 ? row_of_taps<2, O, Partial> : row_of_taps<1, O, Partial>;
}
template <bool Partial>
RowFn row_fn(int64_t taps, int64_t outputs) {
  if (outputs == kOutputs) return row_fn<kOutputs, Partial>(taps);
  return outputs == 2 ? row_fn<2, Partial>(taps) : row_fn<1, Partial>(taps);
}

// The sums of images [first, last) and one vector of groups.
void sum_images(const ConvShape& s, const float* x, const float* dy, int64_t first, int64_t last, int64_t vector,
                float* sums) {
  const int64_t channels = s.groups * s.ci, gradients = s.groups * s.co, group = vector * groups_a_vector(s);
  const int64_t groups = min64(groups_a_vector(s), s.groups - group);
  Row row{};
  for (int l = 0; l < W; ++l) row.base[l] = static_cast<int32_t>(l / s.ci * s.co);
  row.inputs = static_cast<int>(groups * s.ci);
  row.outputs = static_cast<int>(groups * s.co);
  row.column = -s.pad_left;
  row.width = s.w;
  row.stride = s.stride_w;
  row.step = s.stride_w * channels;
  row.dilation = s.dilation_w;
  row.apart = s.dilation_w * channels;
  row.count = s.ow;
  row.channels = gradients;
  row.next_dy = s.ow * gradients;
  row.next_x = s.stride_h * s.w * channels;
  const bool partial = row.inputs < W || row.outputs < W;
  for (int64_t i = 0; i < s.taps() * s.co * W; ++i) sums[i] = 0;
  for (int64_t line = first * s.oh; line < last * s.oh; ++line) {
    row.dy = dy + line * s.ow * gradients + group * s.co;
    for (int64_t kh = 0; kh < s.kh; ++kh) {
      const int64_t h = line % s.oh * s.stride_h + kh * s.dilation_h - s.pad_top;
      if (h < 0 || h >= s.h) continue;
      row.x = x + ((line / s.oh * s.h + h) * s.w - s.pad_left) * channels + group * s.ci;
      for (int64_t kw = 0, taps; kw < s.kw; kw += taps) {
        taps = min64(kTaps, s.kw - kw);
        for (int64_t o = 0, outputs; o < s.co; o += outputs) {
          const int64_t left = min64(kOutputs, s.co - o);
          outputs = left == 3 ? 2 : left;
          (partial ? row_fn<true> : row_fn<false>)(taps, outputs)(row, kw, o, s.co, sums + kh * s.kw * s.co * W);
        }
      }
    }
  }
}

}  // namespace

size_t workspace_weight_shuffled(const ConvShape& s) {
  return static_cast<size_t>(min64(s.n, 8) * block_floats(s)) * sizeof(float);
}

void backward_weight_shuffled(const ConvShape& s, const float* x, const float* dy, float* sums, float* dw) {
  const int64_t images = ceil_div(s.n, min64(s.n, 8)), blocks = ceil_div(s.n, images);
  const int64_t size = block_floats(s), taps = s.taps(), groups = groups_a_vector(s), parts = vectors(s);
  parallel_for(parts * blocks, parts * taps * s.co * s.n * s.out_size(), [&](int64_t task) {
    const int64_t block = task / parts, vector = task % parts;
    sum_images(s, x, dy, block * images, min64(s.n, (block + 1) * images), vector,
               sums + block * size + vector * taps * s.co * W);
  });
  for (int64_t block = 1; block < blocks; ++block)
    for (int64_t i = 0; i < size; i += W) store(sums + i, load(sums + i) + load(sums + block * size + i));
  for (int64_t g = 0; g < s.groups; ++g)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t o = 0; o < s.co; ++o) {
        const float* from = sums + ((g / groups * taps + t) * s.co + o) * W + g % groups * s.ci;
        for (int64_t i = 0; i < s.ci; ++i) dw[((g * s.co + o) * s.ci + i) * taps + t] = from[i];
      }
}

}  // namespace dlcore::DLCORE_ISA
