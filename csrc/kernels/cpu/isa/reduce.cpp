// Sums and extremes: along rows in 16 lanes, over columns in blocks of 512, both in the fixed orders of docs/ops.md.
#include "kernels/cpu/reduce.h"

#include "base/parallel.h"
#include "kernels/cpu/lanes.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int64_t kChunkElements = 16384;
constexpr int kColumns = 64;  // a tile of columns

struct Sum {
  static constexpr float start = 0.0f;
  static DLCORE_INLINE VF join(VF a, VF b) { return a + b; }
  static DLCORE_INLINE float join1(float a, float b) { return a + b; }
};
// The first of equals, and a NaN before all else.
struct Max {
  static constexpr float start = -__builtin_inff();
  static DLCORE_INLINE VF join(VF a, VF b) { return select((b > a) | (b != b), b, a); }
  static DLCORE_INLINE float join1(float a, float b) { return b > a || b != b ? b : a; }
};
struct Min {
  static constexpr float start = __builtin_inff();
  static DLCORE_INLINE VF join(VF a, VF b) { return select((b < a) | (b != b), b, a); }
  static DLCORE_INLINE float join1(float a, float b) { return b < a || b != b ? b : a; }
};

template <class Op>
DLCORE_INLINE Lanes join16(const Lanes& a, const Lanes& b) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = Op::join(a.v[part], b.v[part]);
  return r;
}

template <class Op>
DLCORE_INLINE float row(const float* x, int64_t n) {
  Lanes acc = splat16(Op::start);
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + kLanes <= n; i += kLanes) acc = join16<Op>(acc, load16(x + i));
  if (i < n) {
    const int left = static_cast<int>(n - i);
    acc = first_of(left, join16<Op>(acc, load16(x + i, left)), acc);
  }
  float t[kLanes];
  store16(t, acc);
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int l = 0; l < step; ++l) t[l] = Op::join1(t[l], t[l + step]);
  return t[0];
}

// A place in a row-major walk over some axes.
struct Walk {
  const ReduceAxes& axes;
  int64_t index[8];
  int64_t offset = 0;

  Walk(const ReduceAxes& a, int64_t i) : axes(a) {
    for (int d = a.rank - 1; d >= 0; --d) {
      index[d] = i % a.size[d];
      i /= a.size[d];
      offset += index[d] * a.stride[d];
    }
  }
  // Steps left on the last axis, this one included.
  int64_t run() const { return axes.rank == 0 ? 1 : axes.size[axes.rank - 1] - index[axes.rank - 1]; }
  void skip(int64_t n) {  // n <= run()
    int d = axes.rank - 1;
    if (d < 0) return;
    index[d] += n;
    offset += n * axes.stride[d];
    while (index[d] == axes.size[d] && d > 0) {
      offset += axes.stride[d - 1] - axes.size[d] * axes.stride[d];
      index[d] = 0;
      ++index[--d];
    }
  }
};

int64_t at_least_one(int64_t n) { return n > 0 ? n : 1; }

template <class Op>
void rows(const ReduceArgs& a) {
  const int64_t work = at_least_one(a.count * a.tail), step = at_least_one(kChunkElements / (work + 16));
  auto body = [&](int64_t chunk) {
    const int64_t from = chunk * step, to = from + step < a.outer ? from + step : a.outer;
    Walk kept(a.kept, from);
    for (int64_t o = from; o < to; ++o, kept.skip(1)) {
      const float* x = a.x + kept.offset;
      if (a.count == 1) {
        a.out[o] = row<Op>(x, a.tail);
        continue;
      }
      float result = 0.0f;
      Walk reduced(a.reduced, 0);
      for (int64_t i = 0; i < a.count; ++i, reduced.skip(1)) {
        const float r = row<Op>(x + reduced.offset, a.tail);
        result = i == 0 ? r : Op::join1(result, r);
      }
      a.out[o] = result;
    }
  };
  parallel_for((a.outer + step - 1) / step, a.outer * (work + 16) / 2, body);
}

// Reduced elements [from, from + n) of `count` vectors of columns, the last one of `last` lanes.
template <class Op, int count>
DLCORE_INLINE void fold(const ReduceArgs& a, const float* x, int64_t from, int64_t n, float* out, int last) {
  VF acc[count];
#pragma GCC unroll 8
  for (int k = 0; k < count; ++k) acc[k] = splat(Op::start);
  Walk walk(a.reduced, from);
  const int64_t stride = a.reduced.rank == 0 ? 0 : a.reduced.stride[a.reduced.rank - 1];
  while (n > 0) {
    const int64_t run = walk.run() < n ? walk.run() : n;
    const float* p = x + walk.offset;
    for (int64_t i = 0; i < run; ++i, p += stride) {
#pragma GCC unroll 8
      for (int k = 0; k < count; ++k)
        acc[k] = Op::join(acc[k], count == 1 && last < W ? load_partial(p, last) : load(p + k * W));
    }
    n -= run;
    walk.skip(run);
  }
#pragma GCC unroll 8
  for (int k = 0; k < count; ++k)
    count == 1 && last < W ? store_partial(out, acc[k], last) : store(out + k * W, acc[k]);
}

// One block of one tile of columns.
template <class Op>
void block(const ReduceArgs& a, const float* x, int64_t from, int64_t n, int64_t columns, float* out) {
  int64_t c = 0;
  if (columns == kColumns) return fold<Op, kColumns / W>(a, x, from, n, out, W);
  for (; c + W <= columns; c += W) fold<Op, 1>(a, x + c, from, n, out + c, W);
  if (c < columns) fold<Op, 1>(a, x + c, from, n, out + c, static_cast<int>(columns - c));
}

template <class Op>
void columns(const ReduceArgs& a) {
  const int64_t blocks = at_least_one((a.count + kReduceBlock - 1) / kReduceBlock);
  const int64_t tiles = (a.inner + kColumns - 1) / kColumns, units = a.outer * blocks * tiles;
  const int64_t height = a.count < kReduceBlock ? a.count : kReduceBlock,
                width = a.inner < kColumns ? a.inner : kColumns;
  const int64_t step = at_least_one(kChunkElements / (height * (width < W ? W : width) + 32));
  float* to = blocks == 1 ? a.out : a.partial;
  auto body = [&](int64_t chunk) {
    for (int64_t u = chunk * step; u < units && u < (chunk + 1) * step; ++u) {
      const int64_t tile = u % tiles, b = u / tiles % blocks, o = u / tiles / blocks;
      const int64_t c = tile * kColumns, left = a.inner - c, from = b * kReduceBlock;
      const int64_t n = a.count - from < kReduceBlock ? a.count - from : kReduceBlock;
      const Walk kept(a.kept, o);
      block<Op>(a, a.x + kept.offset + c, from, n, left < kColumns ? left : kColumns,
                to + (o * blocks + b) * a.inner + c);
    }
  };
  parallel_for((units + step - 1) / step, a.outer * a.count * (a.inner + W) / 2, body);
  if (blocks == 1) return;
  for (int64_t o = 0; o < a.outer; ++o)
    for (int64_t c = 0; c < a.inner; c += W) {
      const int n = a.inner - c < W ? static_cast<int>(a.inner - c) : W;
      const float* p = a.partial + o * blocks * a.inner + c;
      VF acc = load_partial(p, n);
      for (int64_t b = 1; b < blocks; ++b) acc = Op::join(acc, load_partial(p + b * a.inner, n));
      store_partial(a.out + o * a.inner + c, acc, n);
    }
}

// The place of the first x that is NaN, else of the first that equals the extreme m.
int64_t find(const float* x, int64_t n, float m) {
  const bool nan = m != m;
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    const VF v = load(x + i);
    if (any(nan ? VI(v != v) : VI(v == m))) break;
  }
  for (; i < n; ++i)
    if (nan ? x[i] != x[i] : x[i] == m) return i;
  return 0;
}

template <class Op, bool largest>
void arg_extreme(const ArgArgs& a) {
  const int64_t tiles = a.inner == 1 ? 1 : (a.inner + W - 1) / W, units = a.outer * tiles;
  const int64_t step = at_least_one(kChunkElements / (a.count * (a.inner == 1 ? 1 : W) + 16));
  auto body = [&](int64_t chunk) {
    for (int64_t u = chunk * step; u < units && u < (chunk + 1) * step; ++u) {
      if (a.inner == 1) {
        const float* x = a.x + u * a.count;
        a.out[u] = find(x, a.count, row<Op>(x, a.count));
        continue;
      }
      const int64_t o = u / tiles, c = u % tiles * W;
      const int n = a.inner - c < W ? static_cast<int>(a.inner - c) : W;
      const float* x = a.x + o * a.count * a.inner + c;
      VF best = load_partial(x, n);
      VI place = {};
      for (int64_t i = 1; i < a.count; ++i) {
        const VF v = load_partial(x + i * a.inner, n);
        const VI better = (largest ? v > best : v < best) | ((v != v) & (best == best));
        best = select(better, v, best);
        place = select(better, splat(static_cast<int32_t>(i)), place);
      }
      for (int l = 0; l < n; ++l) a.out[o * a.inner + c + l] = place[l];
    }
  };
  parallel_for((units + step - 1) / step, a.outer * a.count * a.inner, body);
}

}  // namespace

const ReduceTable reduce_table = {rows<Sum>,
                                  columns<Sum>,
                                  rows<Max>,
                                  columns<Max>,
                                  rows<Min>,
                                  columns<Min>,
                                  arg_extreme<Max, true>,
                                  arg_extreme<Min, false>};

}  // namespace dlcore::DLCORE_ISA
