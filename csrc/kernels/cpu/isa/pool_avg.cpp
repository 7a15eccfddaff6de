// Average pooling. Sums run over the window in row-major order, gradients over the outputs in ascending order; padding
// is skipped, not added, so that every width takes the same steps.
#include "kernels/cpu/pool_avg.h"

#include "base/parallel.h"
#include "kernels/cpu/columns.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kChunkElements = 16384;

struct AvgJob {
  const PoolArgs& a;
  const float* in;
  float* out;
  int64_t units, per_chunk, block, blocks;
};

DLCORE_INLINE float divisor(const PoolArgs& a, int64_t rows, int64_t x0) {
  const int64_t count = rows * counted(x0, a.w, a.kw, a.right, a.include_pad);
  return static_cast<float>(count > 0 ? count : 1);
}

template <int U>
DLCORE_INLINE void avg_channels(const PoolArgs& a, const float* first, TapRange rows, TapRange columns, float count,
                                float* y, int n) {
  VF sum[U] = {};
  for (int64_t i = rows.first; i < rows.last; ++i)
    for (int64_t j = columns.first; j < columns.last; ++j)
      for (int u = 0; u < U; ++u) sum[u] += load_n(first + (i * a.w + j) * a.c + u * W, n);
  for (int u = 0; u < U; ++u) store_n(y + u * W, sum[u] / splat(count), n);
}

void avg_nhwc_chunk(void* context, int64_t chunk) {
  const AvgJob& job = *static_cast<const AvgJob*>(context);
  const PoolArgs& a = job.a;
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  for (int64_t u = begin; u < end; ++u) {
    const float* image = job.in + u / a.oh * a.h * a.w * a.c;
    const int64_t y0 = u % a.oh * a.sh - a.top;
    const TapRange rows = taps(y0, a.h, a.kh, 1);
    const int64_t counted_rows = counted(y0, a.h, a.kh, a.bottom, a.include_pad);
    for (int64_t ox = 0; ox < a.ow; ++ox) {
      const int64_t x0 = ox * a.sw - a.left;
      const TapRange columns = taps(x0, a.w, a.kw, 1);
      const float count = divisor(a, counted_rows, x0);
      const float* p = image + (y0 * a.w + x0) * a.c;  // tap (0, 0), which may lie in the padding
      float* y = job.out + (u * a.ow + ox) * a.c;
      int64_t c = 0;
      for (; c + 4 * W <= a.c; c += 4 * W) avg_channels<4>(a, p + c, rows, columns, count, y + c, W);
      for (; c < a.c; c += W)
        avg_channels<1>(a, p + c, rows, columns, count, y + c, static_cast<int>(smaller(W, a.c - c)));
    }
  }
}

// The counts of a vector of outputs whose first taps are at `column`.
DLCORE_INLINE VF divisors(const PoolArgs& a, int64_t rows, VI column) {
  const VI limit = splat(static_cast<int32_t>(a.w + (a.include_pad ? a.right : 0)));
  const VI stop = column + static_cast<int32_t>(a.kw), zero{};
  const VI begin = a.include_pad ? column : select(column > zero, column, zero);
  VI count = (select(stop < limit, stop, limit) - begin) * static_cast<int32_t>(rows);
  count = select(count > zero, count, zero + 1);
  return to_float(count);
}

template <int Stride>
void avg_row(const PoolArgs& a, const float* plane, int64_t oy, float* y) {
  const int64_t y0 = oy * a.sh - a.top;
  const TapRange rows = taps(y0, a.h, a.kh, 1);
  const int64_t counted_rows = counted(y0, a.h, a.kh, a.bottom, a.include_pad);
  const int32_t width = static_cast<int32_t>(a.w), stride = static_cast<int32_t>(a.sw);
  for (int64_t ox = 0; ox < a.ow; ox += W) {
    const int n = static_cast<int>(smaller(W, a.ow - ox));
    const int64_t x0 = ox * a.sw - a.left, last = x0 + (n - 1) * a.sw;
    const bool inside = x0 >= 0 && last + a.kw <= a.w;
    const VI column = iota() * stride + static_cast<int32_t>(x0);
    const TapRange left = taps(last, a.w, a.kw, 1), right = taps(x0, a.w, a.kw, 1);
    VF sum{};
    for (int64_t i = rows.first; i < rows.last; ++i) {
      const float* row = plane + (y0 + i) * a.w;
      for (int64_t j = left.first; j < right.last; ++j) {
        if (inside) {
          sum += load_columns<Stride>(row + x0 + j, stride, n);
        } else {
          VI valid;
          const VF v =
              Edge{column, width}.load<Stride>(row, static_cast<int32_t>(x0 + j), static_cast<int32_t>(j), valid);
          sum = select(valid, sum + v, sum);
        }
      }
    }
    store_n(y + ox, sum / divisors(a, counted_rows, column), n);
  }
}

// Rows too short for vectors (a global average): eight planes side by side hide the latency of their chains.
void avg_planes(const PoolArgs& a, const float* x, float* y, int64_t planes) {
  constexpr int64_t kSide = 8;
  const int64_t size = a.h * a.w, out = a.oh * a.ow;
  for (int64_t o = 0; o < out; ++o) {
    const int64_t y0 = o / a.ow * a.sh - a.top, x0 = o % a.ow * a.sw - a.left;
    const TapRange rows = taps(y0, a.h, a.kh, 1), columns = taps(x0, a.w, a.kw, 1);
    const float count = divisor(a, counted(y0, a.h, a.kh, a.bottom, a.include_pad), x0);
    for (int64_t p = 0; p < planes; p += kSide) {
      const int64_t n = smaller(kSide, planes - p);
      float sum[kSide] = {};
      for (int64_t i = rows.first; i < rows.last; ++i)
        for (int64_t j = columns.first; j < columns.last; ++j) {
          const float* v = x + p * size + (y0 + i) * a.w + x0 + j;
          if (n == kSide) {
#pragma GCC unroll 8
            for (int64_t k = 0; k < kSide; ++k) sum[k] += *(const FloatU*)(v + k * size);
          } else {
            for (int64_t k = 0; k < n; ++k) sum[k] += *(const FloatU*)(v + k * size);
          }
        }
      for (int64_t k = 0; k < n; ++k) *(FloatU*)(y + (p + k) * out + o) = sum[k] / count;
    }
  }
}

// The order of the sum is that of the window, from +0.
DLCORE_INLINE void avg_2x2(const float* top, const float* bottom, float* y, int n) {
  const Square s = squares(top, bottom, n);
  store_n(y, ((((VF{} + s.top_left) + s.top_right) + s.bottom_left) + s.bottom_right) * 0.25f, n);
}

void avg_nchw_chunk(void* context, int64_t chunk) {
  const AvgJob& job = *static_cast<const AvgJob*>(context);
  const PoolArgs& a = job.a;
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  if (a.ow < 4) {
    avg_planes(a, job.in + begin * a.h * a.w, job.out + begin * a.oh * a.ow, end - begin);
    return;
  }
  if (is_halving(a)) {
    for (int64_t u = begin; u < end; ++u)
      for (int64_t oy = 0; oy < a.oh; ++oy) {
        const float* top = job.in + (u * a.h + 2 * oy) * a.w;
        float* y = job.out + (u * a.oh + oy) * a.ow;
        int64_t ox = 0;
        for (; ox + W <= a.ow; ox += W) avg_2x2(top + 2 * ox, top + a.w + 2 * ox, y + ox, W);
        if (ox < a.ow) avg_2x2(top + 2 * ox, top + a.w + 2 * ox, y + ox, static_cast<int>(a.ow - ox));
      }
    return;
  }
  for (int64_t u = begin; u < end; ++u)
    for (int64_t oy = 0; oy < a.oh; ++oy) {
      const float* plane = job.in + u * a.h * a.w;
      float* y = job.out + (u * a.oh + oy) * a.ow;
      if (a.sw == 1)
        avg_row<1>(a, plane, oy, y);
      else if (a.sw == 2)
        avg_row<2>(a, plane, oy, y);
      else
        avg_row<0>(a, plane, oy, y);
    }
}

// x[i] += q[i]
DLCORE_INLINE void add_to(float* x, const float* q, int64_t n) {
  for (int64_t i = 0; i < n; i += W) {
    const int lanes = static_cast<int>(smaller(W, n - i));
    store_n(x + i, load_n(x + i, lanes) + load_n(q + i, lanes), lanes);
  }
}

// x[2i] += q[i]. The elements between get +0, which changes nothing: a sum that began at +0 is never -0.
DLCORE_INLINE void add_to_every_second(float* x, const float* q, int64_t n) {
  for (int64_t i = 0; i < n; i += W) {
    const int lanes = static_cast<int>(smaller(W, n - i));
    const int touched = i + W < n ? 2 * W : 2 * lanes - 1;  // the element after the last may not exist
    const int low = touched < W ? touched : W, high = touched - low;
    const VF v = load_n(q + i, lanes);
    float* p = x + 2 * i;
    store_n(p, load_n(p, low) + __builtin_shufflevector(v, VF{}, DLCORE_ZIP_LOW), low);
    if (high > 0) store_n(p + W, load_n(p + W, high) + __builtin_shufflevector(v, VF{}, DLCORE_ZIP_HIGH), high);
  }
}

// Windows that tile the image exactly: each dx belongs to one output, and is written once.
bool tiles(const PoolArgs& a) {
  return a.kh == a.sh && a.kw == a.sw && a.top + a.bottom + a.left + a.right == 0 && a.oh * a.sh == a.h &&
         a.ow * a.sw == a.w;
}

void back_nhwc_chunk(void* context, int64_t chunk) {
  const AvgJob& job = *static_cast<const AvgJob*>(context);
  const PoolArgs& a = job.a;
  const bool once = tiles(a);
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  for (int64_t u = begin; u < end; ++u) {
    const int64_t c0 = u % job.blocks * job.block, channels = smaller(job.block, a.c - c0);
    float* image = job.out + u / job.blocks * a.h * a.w * a.c + c0;
    const float* dy = job.in + u / job.blocks * a.oh * a.ow * a.c + c0;
    if (!once)
      for (int64_t i = 0; i < a.h * a.w; ++i) fill_bytes(reinterpret_cast<char*>(image + i * a.c), 0, channels * 4);
    for (int64_t oy = 0; oy < a.oh; ++oy) {
      const int64_t y0 = oy * a.sh - a.top;
      const TapRange rows = taps(y0, a.h, a.kh, 1);
      const int64_t counted_rows = counted(y0, a.h, a.kh, a.bottom, a.include_pad);
      for (int64_t ox = 0; ox < a.ow; ++ox) {
        const int64_t x0 = ox * a.sw - a.left;
        const TapRange columns = taps(x0, a.w, a.kw, 1);
        const VF count = splat(divisor(a, counted_rows, x0));
        for (int64_t c = 0; c < channels; c += W) {
          const int n = static_cast<int>(smaller(W, channels - c));
          const VF q = load_n(dy + (oy * a.ow + ox) * a.c + c, n) / count;
          for (int64_t i = rows.first; i < rows.last; ++i)
            for (int64_t j = columns.first; j < columns.last; ++j) {
              float* p = image + ((y0 + i) * a.w + x0 + j) * a.c + c;
              store_n(p, q + (once ? VF{} : load_n(p, n)), n);
            }
        }
      }
    }
  }
}

// One plane, by blocks of outputs whose shares are computed once. Taps run backwards along a row, so that an input
// meets the outputs that cover it in ascending order.
void back_plane(const PoolArgs& a, const float* dy, float* dx) {
  constexpr int64_t kBlock = 256;
  float q[kBlock];
  fill_bytes(reinterpret_cast<char*>(dx), 0, a.h * a.w * 4);
  for (int64_t oy = 0; oy < a.oh; ++oy) {
    const int64_t y0 = oy * a.sh - a.top;
    const TapRange rows = taps(y0, a.h, a.kh, 1);
    const int64_t counted_rows = counted(y0, a.h, a.kh, a.bottom, a.include_pad);
    for (int64_t ox = 0; ox < a.ow; ox += kBlock) {
      const int64_t n = smaller(kBlock, a.ow - ox), x0 = ox * a.sw - a.left, last = x0 + (n - 1) * a.sw;
      for (int64_t i = 0; i < n; i += W) {
        const VI column = iota() * static_cast<int32_t>(a.sw) + static_cast<int32_t>(x0 + i * a.sw);
        const int lanes = static_cast<int>(smaller(W, n - i));
        store(q + i, load_n(dy + oy * a.ow + ox + i, lanes) / divisors(a, counted_rows, column));
      }
      const TapRange left = taps(last, a.w, a.kw, 1), right = taps(x0, a.w, a.kw, 1);
      for (int64_t i = rows.first; i < rows.last; ++i) {
        float* row = dx + (y0 + i) * a.w;
        for (int64_t j = right.last - 1; j >= left.first; --j) {
          // The outputs of this block whose tap j is inside the row.
          const int64_t x = x0 + j, from = x < 0 ? ceil_div(-x, a.sw) : 0;
          const int64_t to = x < a.w ? smaller(n, (a.w - 1 - x) / a.sw + 1) : 0;
          if (a.sw == 1) {
            if (from < to) add_to(row + x + from, q + from, to - from);
          } else if (a.sw == 2) {
            if (from < to) add_to_every_second(row + x + 2 * from, q + from, to - from);
          } else {
            for (int64_t k = from; k < to; ++k) *(FloatU*)(row + x + k * a.sw) += q[k];
          }
        }
      }
    }
  }
}

// Two by two, exact tiling.
void back_plane_2x2(const PoolArgs& a, const float* dy, float* dx) {
  for (int64_t oy = 0; oy < a.oh; ++oy)
    for (int64_t ox = 0; ox < a.ow; ox += W) {
      const int n = static_cast<int>(smaller(W, a.ow - ox));
      const VF q = load_n(dy + oy * a.ow + ox, n) / splat(4.0f) + VF{};
      const VF low = __builtin_shufflevector(q, q, DLCORE_ZIP_LOW),
               high = __builtin_shufflevector(q, q, DLCORE_ZIP_HIGH);
      for (int row = 0; row < 2; ++row) {
        float* p = dx + (2 * oy + row) * a.w + 2 * ox;
        store_n(p, low, 2 * n < W ? 2 * n : W);
        if (2 * n > W) store_n(p + W, high, 2 * n - W);
      }
    }
}

// A global average: the whole plane gets one share.
void back_plane_whole(const PoolArgs& a, const float* dy, float* dx) {
  const float count = static_cast<float>(a.h * a.w);
  const float share = *(const FloatU*)dy / count + 0.0f;
  const VF q = splat(share);
  for (int64_t i = 0; i < a.h * a.w; i += W) store_n(dx + i, q, static_cast<int>(smaller(W, a.h * a.w - i)));
}

void back_nchw_chunk(void* context, int64_t chunk) {
  const AvgJob& job = *static_cast<const AvgJob*>(context);
  const PoolArgs& a = job.a;
  const auto plane = !tiles(a)                ? back_plane
                     : a.oh * a.ow == 1       ? back_plane_whole
                     : a.kh == 2 && a.kw == 2 ? back_plane_2x2
                                              : back_plane;
  const int64_t begin = chunk * job.per_chunk, end = smaller(begin + job.per_chunk, job.units);
  for (int64_t u = begin; u < end; ++u) plane(a, job.in + u * a.oh * a.ow, job.out + u * a.h * a.w);
}

}  // namespace

void avg_forward(const PoolArgs& a, const float* x, float* y) {
  const int64_t units = a.nhwc ? a.n * a.oh : a.n * a.c, size = a.nhwc ? a.ow * a.c : a.oh * a.ow;
  if (units == 0 || size == 0) return;
  AvgJob job{a, x, y, units, larger(1, kChunkElements / larger(size, a.nhwc ? size : a.h * a.w)), 1, 1};
  parallel_for(ceil_div(units, job.per_chunk), units * size * a.kh * a.kw / 4, a.nhwc ? avg_nhwc_chunk : avg_nchw_chunk,
               &job);
}

void avg_backward(const PoolArgs& a, const float* dy, float* dx) {
  AvgJob job{a, dy, dx, a.n * a.c, 1, 1, 1};
  if (a.nhwc) {
    job.block = a.c >= 256 ? 128 : larger(1, a.c);
    job.blocks = ceil_div(a.c, job.block);
    job.units = a.n * job.blocks;
  }
  const int64_t work = (a.h * a.w + a.oh * a.ow) * job.block;
  if (job.units == 0 || work == 0) return;
  job.per_chunk = larger(1, kChunkElements / work);
  parallel_for(ceil_div(job.units, job.per_chunk), job.units * (work + a.oh * a.ow * job.block * a.kh * a.kw) / 4,
               a.nhwc ? back_nhwc_chunk : back_nchw_chunk, &job);
}

}  // namespace dlcore::DLCORE_ISA
