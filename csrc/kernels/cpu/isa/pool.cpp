// Max pooling: vectors over channels (nhwc) or along output rows (nchw). Average pooling is in pool_avg.cpp.
#include "kernels/cpu/pool.h"

#include "base/parallel.h"
#include "kernels/cpu/columns.h"
#include "kernels/cpu/pool_avg.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kChunkElements = 16384;

struct MaxJob {
  const PoolArgs& a;
  const float* x;
  float* y;
  int32_t* index;
  int64_t units, per_chunk;
};

// The first of equals stays; the first NaN stays.
DLCORE_INLINE void update(VF& best, VI& index, VF v, VI at) {
  const VI take = ~(v <= best) & (best == best);  // greater, or the first NaN
  best = select(take, v, best);
  index = select(take, at, index);
}

// U vectors of channels (n < W only with U = 1) over one window.
template <int U>
DLCORE_INLINE void max_channels(const PoolArgs& a, const float* image, int64_t y0, int64_t x0, TapRange rows,
                                TapRange columns, float* y, int32_t* index, int n) {
  VF best[U] = {};
  VI at[U] = {};
  bool first = true;
  for (int64_t i = rows.first; i < rows.last; ++i)
    for (int64_t j = columns.first; j < columns.last; ++j) {
      const int64_t pixel = (y0 + i * a.dh) * a.w + x0 + j * a.dw;
      const float* p = image + pixel * a.c;
      const VI here = splat(static_cast<int32_t>(pixel));
      for (int u = 0; u < U; ++u) {
        const VF v = load_n(p + u * W, n);
        if (first) {
          best[u] = v;
          at[u] = here;
        } else {
          update(best[u], at[u], v, here);
        }
      }
      first = false;
    }
  for (int u = 0; u < U; ++u) {
    store_n(y + u * W, best[u], n);
    store_n(index + u * W, at[u], n);
  }
}

void max_nhwc_chunk(void* context, int64_t chunk) {
  const MaxJob& job = *static_cast<const MaxJob*>(context);
  const PoolArgs& a = job.a;
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  for (int64_t u = begin; u < end; ++u) {
    const float* image = job.x + u / a.oh * a.h * a.w * a.c;
    const int64_t y0 = u % a.oh * a.sh - a.top;
    const TapRange rows = taps(y0, a.h, a.kh, a.dh);
    for (int64_t ox = 0; ox < a.ow; ++ox) {
      const int64_t x0 = ox * a.sw - a.left;
      const TapRange columns = taps(x0, a.w, a.kw, a.dw);
      float* y = job.y + (u * a.ow + ox) * a.c;
      int32_t* index = job.index + (u * a.ow + ox) * a.c;
      if (rows.first == rows.last || columns.first == columns.last) {
        for (int64_t c = 0; c < a.c; ++c) {
          *(FloatU*)(y + c) = -__builtin_inff();
          *(IntU*)(index + c) = -1;
        }
        continue;
      }
      int64_t c = 0;
      for (; c + 4 * W <= a.c; c += 4 * W) max_channels<4>(a, image + c, y0, x0, rows, columns, y + c, index + c, W);
      for (; c < a.c; c += W)
        max_channels<1>(a, image + c, y0, x0, rows, columns, y + c, index + c, static_cast<int>(smaller(W, a.c - c)));
    }
  }
}

// n outputs of two by two inputs.
DLCORE_INLINE void max_2x2(const float* top, const float* bottom, int32_t at, int32_t width, float* y, int32_t* index,
                           int n) {
  const VI column = iota() * 2 + at;
  const Square s = squares(top, bottom, n);
  VF best = s.top_left;
  VI where = column;
  update(best, where, s.top_right, column + 1);
  update(best, where, s.bottom_left, column + width);
  update(best, where, s.bottom_right, column + width + 1);
  store_n(y, best, n);
  store_n(index, where, n);
}

template <int Stride>
void max_row(const PoolArgs& a, const float* plane, int64_t oy, float* y, int32_t* index) {
  const int64_t y0 = oy * a.sh - a.top;
  const TapRange rows = taps(y0, a.h, a.kh, a.dh);
  const int32_t width = static_cast<int32_t>(a.w), stride = static_cast<int32_t>(a.sw);
  const bool two = Stride == 2 && a.kh == 2 && a.kw == 2 && a.dh == 1 && a.dw == 1 && rows.last - rows.first == 2;
  for (int64_t ox = 0; ox < a.ow; ox += W) {
    const int n = static_cast<int>(smaller(W, a.ow - ox));
    const int64_t x0 = ox * a.sw - a.left, last = x0 + (n - 1) * a.sw;  // tap 0 of the first and the last lane
    const bool inside = x0 >= 0 && last + (a.kw - 1) * a.dw < a.w;
    if (two && inside) {
      const float* top = plane + y0 * a.w + x0;
      max_2x2(top, top + a.w, static_cast<int32_t>(y0 * a.w + x0), width, y + ox, index + ox, n);
      continue;
    }
    const VI column = iota() * stride + static_cast<int32_t>(x0);
    VF best = splat(-__builtin_inff());
    VI where = splat(int32_t{-1});
    const TapRange left = taps(last, a.w, a.kw, a.dw), right = taps(x0, a.w, a.kw, a.dw);
    if (inside && rows.first < rows.last) {  // the first tap is there for every lane
      best = load_columns<Stride>(plane + (y0 + rows.first * a.dh) * a.w + x0, stride, n);
      where = column + static_cast<int32_t>((y0 + rows.first * a.dh) * a.w);
    }
    for (int64_t i = rows.first; i < rows.last; ++i) {
      const int64_t iy = y0 + i * a.dh;
      const float* row = plane + iy * a.w;
      for (int64_t j = left.first; j < right.last; ++j) {
        const int32_t shift = static_cast<int32_t>(j * a.dw);
        const VI at = column + static_cast<int32_t>(iy * a.w + shift);
        if (inside) {
          update(best, where, load_columns<Stride>(row + x0 + shift, stride, n), at);
        } else {
          VI valid;
          const VF v = Edge{column, width}.load<Stride>(row, static_cast<int32_t>(x0) + shift, shift, valid);
          const VI take = valid & ((where < 0) | (v > best) | ((v != v) & (best == best)));
          best = select(take, v, best);
          where = select(take, at, where);
        }
      }
    }
    store_n(y + ox, best, n);
    store_n(index + ox, where, n);
  }
}

void max_nchw_chunk(void* context, int64_t chunk) {
  const MaxJob& job = *static_cast<const MaxJob*>(context);
  const PoolArgs& a = job.a;
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  if (is_halving(a) && a.dh == 1 && a.dw == 1) {
    const int32_t width = static_cast<int32_t>(a.w);
    int64_t plane = begin / a.oh, oy = begin % a.oh;
    for (int64_t u = begin; u < end; ++u) {
      const int64_t at = 2 * oy * a.w;
      const float* top = job.x + plane * a.h * a.w + at;
      int64_t ox = 0;
      for (; ox + W <= a.ow; ox += W)
        max_2x2(top + 2 * ox, top + a.w + 2 * ox, static_cast<int32_t>(at + 2 * ox), width, job.y + u * a.ow + ox,
                job.index + u * a.ow + ox, W);
      if (ox < a.ow)
        max_2x2(top + 2 * ox, top + a.w + 2 * ox, static_cast<int32_t>(at + 2 * ox), width, job.y + u * a.ow + ox,
                job.index + u * a.ow + ox, static_cast<int>(a.ow - ox));
      if (++oy == a.oh) oy = 0, ++plane;
    }
    return;
  }
  for (int64_t u = begin; u < end; ++u) {
    const float* plane = job.x + u / a.oh * a.h * a.w;
    float* y = job.y + u * a.ow;
    int32_t* index = job.index + u * a.ow;
    if (a.sw == 1)
      max_row<1>(a, plane, u % a.oh, y, index);
    else if (a.sw == 2)
      max_row<2>(a, plane, u % a.oh, y, index);
    else
      max_row<0>(a, plane, u % a.oh, y, index);
  }
}

void max_forward(const PoolArgs& a, const float* x, float* y, int32_t* index) {
  const int64_t row = a.nhwc ? a.ow * a.c : a.ow;
  const int64_t units = (a.nhwc ? a.n : a.n * a.c) * a.oh;
  if (row == 0 || units == 0) return;
  MaxJob job{a, x, y, index, units, larger(1, kChunkElements / row)};
  parallel_for(ceil_div(units, job.per_chunk), units * row * a.kh * a.kw / 3, a.nhwc ? max_nhwc_chunk : max_nchw_chunk,
               &job);
}

struct BackJob {
  const PoolArgs& a;
  const float* dy;
  const int32_t* index;
  float* dx;
  int64_t units, per_chunk, block, blocks;  // nhwc: a unit is a block of an image's channels
  int64_t bad;                              // first position out of range
};

void report(BackJob& job, int64_t position) {
  int64_t seen = __atomic_load_n(&job.bad, __ATOMIC_RELAXED);
  while ((seen < 0 || position < seen) &&
         !__atomic_compare_exchange_n(&job.bad, &seen, position, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

// dx[index·step] += dy for n outputs from position `from` on, ascending; consecutive outputs are `stride` apart in dx
// (1 for the channels of a pixel, 0 along a plane).
DLCORE_INLINE void scatter(BackJob& job, float* dx, int64_t step, int64_t stride, int64_t from, int64_t n) {
  // In locals, as the stores might alias the job.
  const uint64_t size = static_cast<uint64_t>(job.a.h * job.a.w);
  const float* dy = job.dy + from;
  const int32_t* index = job.index + from;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t i = *(const IntU*)(index + k);
    if (static_cast<uint64_t>(i) < size)
      *(FloatU*)(dx + i * step + k * stride) += *(const FloatU*)(dy + k);
    else if (i != -1)
      report(job, from + k);
  }
}

// Windows that tile the image two by two leave each input one candidate output: dx is written once, with no zeroing and
// no scatter. The op does not carry the window, so the sizes suggest it and the indices must confirm it, or this
// returns false.
bool tiles_nchw(const PoolArgs& a, const float* dy, const int32_t* index, float* dx) {
  const VI lane = iota() * 2;
  const int32_t width = static_cast<int32_t>(a.w);
  VI bad{};
  for (int64_t oy = 0; oy < a.oh; ++oy) {
    float* top = dx + 2 * oy * a.w;
    for (int64_t ox = 0; ox < a.ow; ox += W) {
      const int n = static_cast<int>(smaller(W, a.ow - ox));
      const VF d = load_n(dy + oy * a.ow + ox, n) + VF{};
      const VI at = load_n(index + oy * a.ow + ox, n) - lane - static_cast<int32_t>(2 * oy * a.w + 2 * ox);
      const VI m0 = at == 0, m1 = at == 1, m2 = at == width, m3 = at == width + 1;
      bad |= ~(m0 | m1 | m2 | m3) & (iota() < n);
      for (int row = 0; row < 2; ++row) {
        const VF even = select(row ? m2 : m0, d, VF{}), odd = select(row ? m3 : m1, d, VF{});
        const VF low = __builtin_shufflevector(even, odd, DLCORE_ZIP_LOW);
        const VF high = __builtin_shufflevector(even, odd, DLCORE_ZIP_HIGH);
        float* p = top + row * a.w + 2 * ox;
        store_n(p, low, 2 * n < W ? 2 * n : W);
        if (2 * n > W) store_n(p + W, high, 2 * n - W);
      }
    }
    if (a.w % 2) *(FloatU*)(top + a.w - 1) = *(FloatU*)(top + 2 * a.w - 1) = 0;
  }
  if (a.h % 2) fill_bytes(reinterpret_cast<char*>(dx + (a.h - 1) * a.w), 0, a.w * 4);
  for (int l = 0; l < W; ++l)
    if (bad[l]) return false;
  return true;
}

DLCORE_INLINE void zero_channels(float* p, int64_t pixels, int64_t step, int64_t n) {
  if (n == step) {
    fill_bytes(reinterpret_cast<char*>(p), 0, pixels * n * 4);
    return;
  }
  for (int64_t i = 0; i < pixels; ++i) fill_bytes(reinterpret_cast<char*>(p + i * step), 0, n * 4);
}

bool tiles_nhwc(const PoolArgs& a, const float* dy, const int32_t* index, float* dx, int64_t channels) {
  VI bad{};
  const int32_t width = static_cast<int32_t>(a.w);
  for (int64_t oy = 0; oy < a.oh; ++oy) {
    for (int64_t ox = 0; ox < a.ow; ++ox) {
      const int64_t from = (oy * a.ow + ox) * a.c, pixel = 2 * oy * a.w + 2 * ox;
      float* p = dx + pixel * a.c;
      for (int64_t c = 0; c < channels; c += W) {
        const int n = static_cast<int>(smaller(W, channels - c));
        const VF d = load_n(dy + from + c, n) + VF{};
        const VI at = load_n(index + from + c, n) - static_cast<int32_t>(pixel);
        const VI m0 = at == 0, m1 = at == 1, m2 = at == width, m3 = at == width + 1;
        bad |= ~(m0 | m1 | m2 | m3) & (iota() < n);
        store_n(p + c, select(m0, d, VF{}), n);
        store_n(p + a.c + c, select(m1, d, VF{}), n);
        store_n(p + a.w * a.c + c, select(m2, d, VF{}), n);
        store_n(p + (a.w + 1) * a.c + c, select(m3, d, VF{}), n);
      }
    }
    if (a.w % 2)
      for (int row = 0; row < 2; ++row) zero_channels(dx + ((2 * oy + row + 1) * a.w - 1) * a.c, 1, a.c, channels);
  }
  if (a.h % 2) zero_channels(dx + (a.h - 1) * a.w * a.c, a.w, a.c, channels);
  for (int l = 0; l < W; ++l)
    if (bad[l]) return false;
  return true;
}

void back_chunk(void* context, int64_t chunk) {
  BackJob& job = *static_cast<BackJob*>(context);
  const PoolArgs& a = job.a;
  const bool tiled = a.oh == a.h / 2 && a.ow == a.w / 2 && a.oh > 0 && a.ow > 0;
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  const int64_t pixels = a.oh * a.ow;
  for (int64_t u = begin; u < end; ++u) {
    if (!a.nhwc) {
      float* dx = job.dx + u * a.h * a.w;
      if (tiled && tiles_nchw(a, job.dy + u * pixels, job.index + u * pixels, dx)) continue;
      fill_bytes(reinterpret_cast<char*>(dx), 0, a.h * a.w * 4);
      scatter(job, dx, 1, 0, u * pixels, pixels);
      continue;
    }
    const int64_t image = u / job.blocks, c0 = u % job.blocks * job.block, n = smaller(job.block, a.c - c0);
    float* dx = job.dx + image * a.h * a.w * a.c + c0;
    const int64_t from = image * pixels * a.c + c0;
    if (tiled && tiles_nhwc(a, job.dy + from, job.index + from, dx, n)) continue;
    zero_channels(dx, a.h * a.w, a.c, n);
    for (int64_t o = 0; o < pixels; ++o) scatter(job, dx, a.c, 1, from + o * a.c, n);
  }
}

int64_t max_backward(const PoolArgs& a, const float* dy, const int32_t* index, float* dx) {
  BackJob job{a, dy, index, dx, a.n * a.c, 1, 1, 1, -1};
  if (a.nhwc) {
    job.block = a.c >= 256 ? 128 : larger(1, a.c);
    job.blocks = ceil_div(a.c, job.block);
    job.units = a.n * job.blocks;
  }
  const int64_t work = (a.h * a.w + 4 * a.oh * a.ow) * job.block;
  if (job.units == 0 || work == 0) return -1;
  job.per_chunk = larger(1, kChunkElements / work);
  parallel_for(ceil_div(job.units, job.per_chunk), job.units * work / 4, back_chunk, &job);
  return job.bad;
}

struct GatherJob {
  const PoolArgs& a;
  const float* x;
  const int32_t* index;
  float* y;
  int64_t units, per_chunk;
};

// nchw: a unit is a plane; nhwc: a row of outputs. An index of -1 (a window wholly in the padding) gives 0.
void gather_chunk(void* context, int64_t chunk) {
  const GatherJob& job = *static_cast<const GatherJob*>(context);
  const PoolArgs& a = job.a;
  const bool narrow = a.h * a.w * a.c <= INT32_MAX;
  const int64_t runs = a.nhwc ? a.ow : 1, n = a.nhwc ? a.c : a.oh * a.ow, step = a.nhwc ? a.c : 1;
  const int64_t image = a.nhwc ? a.h * a.w * a.c : a.h * a.w;
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  for (int64_t u = begin; u < end; ++u) {
    const float* x = job.x + (a.nhwc ? u / a.oh : u) * image;
    for (int64_t r = 0; r < runs; ++r) {
      const int64_t from = (u * runs + r) * n;
      int64_t i = 0;
      for (; (narrow || !a.nhwc) && i < n; i += W) {
        const int lanes = static_cast<int>(smaller(W, n - i));
        const VI index = load_n(job.index + from + i, lanes);
        const VI valid = (index >= 0) & (iota() < lanes);
        VI at = index * static_cast<int32_t>(step);
        if (a.nhwc) at += iota() + static_cast<int32_t>(i);
        const VF v = gather(x, select(valid, at, VI{}));
        store_n(job.y + from + i, select(valid, v, VF{}), lanes);
      }
      for (; i < n; ++i) {
        const int64_t index = *(const IntU*)(job.index + from + i);
        *(FloatU*)(job.y + from + i) = index < 0 ? 0 : *(const FloatU*)(x + index * step + i);
      }
    }
  }
}

void max_gather(const PoolArgs& a, const float* x, const int32_t* index, float* y) {
  const int64_t size = a.nhwc ? a.ow * a.c : a.oh * a.ow, units = a.nhwc ? a.n * a.oh : a.n * a.c;
  if (size == 0 || units == 0) return;
  if (a.h * a.w == 0) {  // every index is -1
    fill_bytes(reinterpret_cast<char*>(y), 0, units * size * 4);
    return;
  }
  GatherJob job{a, x, index, y, units, larger(1, kChunkElements / size)};
  parallel_for(ceil_div(units, job.per_chunk), units * size * 2, gather_chunk, &job);
}

}  // namespace

extern const PoolTable pool_table;
const PoolTable pool_table = {max_forward, max_backward, max_gather, avg_forward, avg_backward};

}  // namespace dlcore::DLCORE_ISA
