// Layer normalisation, and the root-mean-square norm, which is the same without centre and shift. Statistics along rows
// in 16 lanes, two rows at a time so that the chains of additions overlap; sums over rows in blocks of 512, vectors
// along columns.
#include "base/parallel.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/norm.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int kGroup = 2;
constexpr int64_t kChunkElements = 16384;
constexpr int64_t kL1Elements = 4096;
constexpr int64_t kAhead = 8192;   // elements, some rows: backward asks for them while there is arithmetic to do
constexpr int64_t kFar = 1 << 20;  // elements of arrays whose next rows are asked for
constexpr int64_t kStrip = 64;     // columns of one chunk of a sum over rows

int64_t chunk_rows(int64_t width) {
  const int64_t rows = kChunkElements / (width > 0 ? width : 1) / kGroup * kGroup;
  return rows < kGroup ? kGroup : rows;
}
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Where the rows lie: near enough to wait for them, farther, or where results are written past the caches, too.
enum class Reach { kNear, kFar, kPast };

template <class F>
void for_reach(const LayerNormArgs& a, F f) {
  if (a.past)
    f.template operator()<Reach::kPast>();
  else if (a.rows * a.width >= kFar)
    f.template operator()<Reach::kFar>();
  else
    f.template operator()<Reach::kNear>();
}

// What is left of x without its mean.
template <bool Centred>
DLCORE_INLINE Lanes deviation(Lanes x, Lanes mean) {
  return Centred ? x - mean : x;
}
// h, n columns of it from i on, times gamma and shifted.
template <bool Centred>
DLCORE_INLINE Lanes scaled(Lanes h, const LayerNormArgs& a, int64_t i, int n = kLanes) {
  const Lanes gamma = load16(a.gamma + i, n);
  if constexpr (Centred)
    return fma(h, gamma, load16(a.beta + i, n));
  else
    return h * gamma;
}

template <bool Centred, Reach reach, int R>
DLCORE_INLINE void forward_rows(const LayerNormArgs& a, int64_t row) {
  const int64_t width = a.width, full = width / kLanes * kLanes;
  const int tail = (int)(width - full);
  const float* x = a.x + row * width;
  float* y = a.y + row * width;
  Lanes acc[R];
  float mean[R], rstd[R];
  if constexpr (Centred) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[r] = zero_lanes();
    for (int64_t i = 0; i < full; i += kLanes)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        acc[r] = acc[r] + load16(x + r * width + i);
      }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    mean[r] = 0.0f;
    if constexpr (Centred) {
      if (tail) acc[r] = acc[r] + load16(x + r * width + full, tail);
      a.mean[row + r] = mean[r] = tree_sum(acc[r]) / (float)width;
    }
    acc[r] = zero_lanes();
  }
  for (int64_t i = 0; i < full; i += kLanes)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      if constexpr (reach != Reach::kNear)
        __builtin_prefetch(x + (R + r) * width + i, 0, 2);  // the next rows; the first-level cache is full
      const Lanes d = deviation<Centred>(load16(x + r * width + i), splat16(mean[r]));
      acc[r] = fma(d, d, acc[r]);
    }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (tail) {
      const Lanes d = deviation<Centred>(load16(x + r * width + full, tail), splat16(mean[r]));
      const Lanes kept = first_of(tail, d, zero_lanes());
      acc[r] = fma(kept, kept, acc[r]);
    }
    a.rstd[row + r] = rstd[r] = 1.0f / __builtin_sqrtf(tree_sum(acc[r]) / (float)width + a.eps);
  }
  // Row by row: a store whose address is a load's modulo 4096 would hold the load up.
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r, x += width, y += width) {
    const Lanes m = splat16(mean[r]), s = splat16(rstd[r]);
    for (int64_t i = 0; i < full; i += kLanes) {
      const Lanes h = deviation<Centred>(load16(x + i), m) * s;
      write16(y + i, scaled<Centred>(h, a, i), reach == Reach::kPast);
    }
    if (tail) {
      const Lanes h = deviation<Centred>(load16(x + full, tail), m) * s;
      store16(y + full, scaled<Centred>(h, a, full, tail), tail);
    }
  }
}

template <bool Centred, Reach reach>
void forward_from(const LayerNormArgs& a) {
  const int64_t step = chunk_rows(a.width);
  auto body = [&](int64_t chunk) {
    int64_t row = chunk * step;
    const int64_t end = smaller(row + step, a.rows);
    for (; row + kGroup <= end; row += kGroup) forward_rows<Centred, reach, kGroup>(a, row);
    for (; row < end; ++row) forward_rows<Centred, reach, 1>(a, row);
    if (reach == Reach::kPast) end_past();
    if (a.epilogue) a.epilogue->range(*a.epilogue, chunk * step * a.width, (end - chunk * step) * a.width);
  };
  parallel_for((a.rows + step - 1) / step, a.rows * (a.width + 32), body);
}
template <bool Centred>
void forward(const LayerNormArgs& a) {
  for_reach(a, [&]<Reach reach>() { forward_from<Centred, reach>(a); });
}

template <bool Centred, Reach reach, int R>
DLCORE_INLINE void dx_rows(const LayerNormArgs& a, int64_t row) {
  const int64_t width = a.width, full = width / kLanes * kLanes;
  const int tail = (int)(width - full);
  const float *x = a.x + row * width, *dy = a.dy + row * width;
  float* dx = a.dx + row * width;
  Lanes g_sum[R], gh_sum[R], mean[R], rstd[R], ga[R], gb[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    g_sum[r] = gh_sum[r] = zero_lanes();
    mean[r] = Centred ? splat16(a.mean[row + r]) : zero_lanes();
    rstd[r] = splat16(a.rstd[row + r]);
  }
  for (int64_t i = 0; i < full; i += kLanes) {
    const Lanes gamma = load16(a.gamma + i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Lanes g = load16(dy + r * width + i) * gamma;
      if constexpr (Centred) g_sum[r] = g_sum[r] + g;
      gh_sum[r] = fma(g, deviation<Centred>(load16(x + r * width + i), mean[r]) * rstd[r], gh_sum[r]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (tail) {
      const Lanes g = load16(dy + r * width + full, tail) * load16(a.gamma + full, tail);
      const Lanes h = deviation<Centred>(load16(x + r * width + full, tail), mean[r]) * rstd[r];
      if constexpr (Centred) g_sum[r] = g_sum[r] + g;
      gh_sum[r] = fma(g, first_of(tail, h, zero_lanes()), gh_sum[r]);
    }
    if constexpr (Centred) ga[r] = splat16(tree_sum(g_sum[r]) / (float)width);
    gb[r] = splat16(tree_sum(gh_sum[r]) / (float)width);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r, x += width, dy += width, dx += width) {  // row by row, as above
    for (int64_t i = 0; i < full; i += kLanes) {
      if constexpr (reach != Reach::kNear) {
        __builtin_prefetch(x + kAhead + i, 0, 2);
        __builtin_prefetch(dy + kAhead + i, 0, 2);
      }
      if constexpr (reach == Reach::kFar) __builtin_prefetch(dx + kAhead + i, 1, 2);
      const Lanes g = load16(dy + i) * load16(a.gamma + i);
      const Lanes h = deviation<Centred>(load16(x + i), mean[r]) * rstd[r];
      write16(dx + i, rstd[r] * (deviation<Centred>(g, ga[r]) - h * gb[r]), reach == Reach::kPast);
    }
    if (tail) {
      const Lanes g = load16(dy + full, tail) * load16(a.gamma + full, tail);
      const Lanes h = deviation<Centred>(load16(x + full, tail), mean[r]) * rstd[r];
      store16(dx + full, rstd[r] * (deviation<Centred>(g, ga[r]) - h * gb[r]), tail);
    }
  }
}

template <bool Centred, Reach reach>
void dx_range(const LayerNormArgs& a, int64_t row, int64_t end) {
  for (; row + 2 <= end; row += 2) dx_rows<Centred, reach, 2>(a, row);
  for (; row < end; ++row) dx_rows<Centred, reach, 1>(a, row);
  if (reach == Reach::kPast) end_past();
}

// Goes on with the chains of columns [c, c + n), n <= 16 L, over rows [row, end).
template <bool Centred, int L>
DLCORE_INLINE void add_rows(const LayerNormArgs& a, int64_t row, int64_t end, int64_t c, int n, float* gamma_sum,
                            float* beta_sum) {
  Lanes g[L], b[L];
  int have[L];
#pragma GCC unroll 4
  for (int l = 0; l < L; ++l) {
    have[l] = n - l * kLanes < kLanes ? n - l * kLanes : kLanes;
    g[l] = load16(gamma_sum + c + l * kLanes, have[l]);
    b[l] = Centred ? load16(beta_sum + c + l * kLanes, have[l]) : zero_lanes();
  }
  for (; row < end; ++row) {
    const float *x = a.x + row * a.width + c, *dy = a.dy + row * a.width + c;
    const Lanes mean = Centred ? splat16(a.mean[row]) : zero_lanes(), rstd = splat16(a.rstd[row]);
#pragma GCC unroll 4
    for (int l = 0; l < L; ++l) {
      const bool whole = L > 1;  // strips of more than one vector are whole
      const Lanes d = whole ? load16(dy + l * kLanes) : load16(dy, have[l]);
      const Lanes v = whole ? load16(x + l * kLanes) : load16(x, have[l]);
      g[l] = fma(d, deviation<Centred>(v, mean) * rstd, g[l]);
      if constexpr (Centred) b[l] = b[l] + d;
    }
  }
#pragma GCC unroll 4
  for (int l = 0; l < L; ++l) {
    store16(gamma_sum + c + l * kLanes, g[l], have[l]);
    if constexpr (Centred) store16(beta_sum + c + l * kLanes, b[l], have[l]);
  }
}

template <bool Centred>
void sum_range(const LayerNormArgs& a, int64_t row, int64_t end, int64_t c, int64_t c_end, float* gamma_sum,
               float* beta_sum) {
  constexpr int kMany = kParts == 1 ? 4 : 2;
  for (; c + kMany * kLanes <= c_end; c += kMany * kLanes)
    add_rows<Centred, kMany>(a, row, end, c, kMany * kLanes, gamma_sum, beta_sum);
  for (; c < c_end; c += kLanes)
    add_rows<Centred, 1>(a, row, end, c, (int)smaller(c_end - c, kLanes), gamma_sum, beta_sum);
}

void clear(float* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = 0.0f;
}

template <bool Centred, Reach reach>
void backward_from(const LayerNormArgs& a) {
  const int64_t width = a.width, blocks = blocks_of(a.rows), step = chunk_rows(width);
  const auto gamma_sum = [&](int64_t block) { return a.workspace + 2 * block * width; };
  const auto beta_sum = [&](int64_t block) { return a.workspace + (2 * block + 1) * width; };
  clear(a.workspace, 2 * blocks * width);
  const int64_t cycles = a.rows * (width + 32);
  if (blocks >= 8) {  // enough of them to share out: sums and dx together, while the rows are in the cache
    auto body = [&](int64_t block) {
      const int64_t end = smaller((block + 1) * kBlockRows, a.rows);
      const int64_t fit = kL1Elements / (2 * width + 1), some = fit < 4 ? 4 : fit;
      for (int64_t row = block * kBlockRows; row < end; row += some) {
        const int64_t stop = smaller(row + some, end);
        dx_range<Centred, reach>(a, row, stop);
        sum_range<Centred>(a, row, stop, 0, width, gamma_sum(block), beta_sum(block));
      }
    };
    parallel_for(blocks, 2 * cycles, body);
  } else {
    const int64_t strips = (width + kStrip - 1) / kStrip;
    auto sums = [&](int64_t chunk) {
      const int64_t block = chunk / strips, c = chunk % strips * kStrip;
      sum_range<Centred>(a, block * kBlockRows, smaller((block + 1) * kBlockRows, a.rows), c,
                         smaller(c + kStrip, width), gamma_sum(block), beta_sum(block));
    };
    parallel_for(blocks * strips, cycles, sums);
    auto dxs = [&](int64_t chunk) { dx_range<Centred, reach>(a, chunk * step, smaller((chunk + 1) * step, a.rows)); };
    parallel_for((a.rows + step - 1) / step, cycles, dxs);
  }
  const auto add_up = [&](float* total, float* first) {
    for (int64_t c = 0; c < width; ++c) total[c] = 0.0f;
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t c = 0; c < width; ++c) {
        const float part = first[2 * block * width + c];
        total[c] = block == 0 ? part : total[c] + part;
      }
  };
  add_up(a.dgamma, gamma_sum(0));
  if constexpr (Centred) add_up(a.dbeta, beta_sum(0));
}
template <bool Centred>
void backward(const LayerNormArgs& a) {
  for_reach(a, [&]<Reach reach>() { backward_from<Centred, reach>(a); });
}

}  // namespace

const LayerNormTable layer_norm_table = {forward<true>, backward<true>, forward<false>, backward<false>};

}  // namespace dlcore::DLCORE_ISA
