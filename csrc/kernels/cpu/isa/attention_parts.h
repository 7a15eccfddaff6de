// Attention in blocks of 16 queries, one a lane: q and dout are packed so that lane i is query i, scores and their
// gradients lie as keys x 16 queries, k and v are read as they are, element by element. So every chain (over d, over
// keys) is a chain of vectors, softmax needs no reduction across a vector, and no more than 16 rows of scores ever
// exist a strand.
#pragma once
#include "base/parallel.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/lanes.h"

namespace dlcore::DLCORE_ISA::attending {

static_assert(kQueryBlock == kLanes);
// Keys or columns that a micro-kernel goes over at once.
inline constexpr int kWide = kParts == 1 ? 8 : 6, kShort = kParts == 1 ? 8 : 4;
inline constexpr float kInfinity = __builtin_inff();

// A block of queries: `count` from `first` on. Keys below `full` are seen by all, from `end` on by none, and key j
// between by the lanes from `first_lane(j)`.
struct Block {
  int64_t first, full, end, shift;
  int count;
  int first_lane(int64_t j) const { return j < full ? 0 : (int)(j - shift - first); }
};
inline Block block_at(const AttentionArgs& a, int64_t first) {
  const int64_t left = a.queries - first, shift = a.keys - a.queries;
  const int count = left < kLanes ? (int)left : kLanes;
  const auto clamp = [&](int64_t n) { return n < 0 ? 0 : n > a.keys ? a.keys : n; };
  if (!a.causal) return {first, a.keys, a.keys, shift, count};
  // The lanes after `count` see as much as they would.
  return {first, clamp(first + shift + 1), clamp(first + count + shift), shift, count};
}

// Row 0 of a head.
template <class T>
DLCORE_INLINE T* head_of(const AttentionArgs& a, const AttentionRows<T>& x, int64_t head) {
  return x.data + head / a.heads_a_batch * x.batch + head % a.heads_a_batch * x.head;
}

// Rows of floats, apart by `stride`.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  DLCORE_INLINE T* row(int64_t i) const { return data + i * stride; }
  DLCORE_INLINE Rows from(int64_t column) const { return {data + column, stride}; }
};

// Blocks of queries, each after the one before.
struct Blocks {
  const Block* blocks;
  int count;
};

DLCORE_INLINE Lanes replace(const Lanes& a, float old, float with) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = select(a.v[part] == splat(old), splat(with), a.v[part]);
  return r;
}

// Of micro-kernels, each in a function of its own: within one GCC loses track of their registers.
#define DLCORE_APART __attribute__((noinline))

// acc = fma(x, y, acc); AVX-512 reads a splat from memory within the multiplication, which the pinned form would not.
DLCORE_INLINE void add_product(Lanes& acc, const Lanes& x, const Lanes& y) {
  DLCORE_EACH_PART {
    if constexpr (kParts == 1)
      acc.v[part] = fma(x.v[part], y.v[part], acc.v[part]);
    else
      accumulate(acc.v[part], x.v[part], y.v[part]);
  }
}
// f with a constant J and the begin of each run of J from 0 to `count`: J columns or keys, and then fewer. Two runs of
// 4 take less time than one of 6 and one of 2.
template <int J, class F>
DLCORE_INLINE void in_runs_of(int64_t count, F f, int64_t begin = 0) {
  const int64_t end = J == 6 && count % 6 == 2 && count > 2 ? count - 8 : count;
  for (; begin + J <= end; begin += J) f.template operator()<J>(begin);
  if constexpr (J > 1) in_runs_of<(J > 4 ? 4 : J / 2)>(count, f, begin);
}
// Heads of few columns are done with many accumulators before these have paid: 3% on AVX2.
template <class F>
DLCORE_INLINE void in_runs(int64_t count, int64_t size, F f) {
  if (kShort < kWide && size <= 32)
    in_runs_of<kShort>(count, f);
  else
    in_runs_of<kWide>(count, f);
}

// What several blocks of queries have, `next` floats apart.
template <class T>
struct Each {
  T* data;
  int64_t next;
  DLCORE_INLINE T* of(int block) const { return data + block * next; }
  DLCORE_INLINE Each from(int64_t row) const { return {data + row * kLanes, next}; }
  DLCORE_INLINE operator Each<const T>() const { return {data, next}; }
};
// Blocks that go over k and v together: Intel's processors load twice a cycle, and multiply as often.
inline constexpr int kTogether = kParts == 1 ? 2 : 1;
static_assert(kTogether <= kForwardBlocks && kTogether <= kBackwardBlocks);

// out[j] = chain over d < size of packed[d] rows[j][d], for J keys and N blocks.
template <int J, int N>
DLCORE_APART void dots(Each<const float> packed, const float* rows, int64_t stride, int64_t size, Each<float> out) {
  Lanes acc[J][N];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) acc[j][n] = zero_lanes();
#pragma GCC unroll 2
  for (int64_t d = 0; d < size; ++d) {
    Lanes q[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) q[n] = load16(packed.of(n) + d * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) add_product(acc[j][n], splat16(rows[j * stride + d]), q[n]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) store16(out.of(n) + j * kLanes, acc[j][n]);
}
// Of keys from … end.
template <int N>
void all_dots(Each<const float> packed, Rows<const float> rows, int64_t size, int64_t from, int64_t end,
              Each<float> out) {
  in_runs(end - from, size, [&]<int J>(int64_t j) DLCORE_LAMBDA {
    dots<J, N>(packed, rows.row(from + j), rows.stride, size, out.from(from + j));
  });
}
// The keys that each of the blocks sees.
inline void all_dots(const Blocks& all, Each<const float> packed, Rows<const float> rows, int64_t size,
                     Each<float> out) {
  int64_t done = 0;
  if (all.count == kTogether && kTogether > 1) {
    done = all.blocks[0].end;  // the last sees as many or more
    all_dots<kTogether>(packed, rows, size, 0, done, out);
  }
  for (int n = done > 0 ? 1 : 0; n < all.count; ++n)
    all_dots<1>({packed.of(n), 0}, rows, size, done, all.blocks[n].end, {out.of(n), 0});
}

// What is added to the scores of a block: rows of the mask packed as q is, or one for all queries.
struct Mask {
  const float *packed, *shared;
  DLCORE_INLINE Lanes add(const Lanes& s, int64_t j) const {
    if (packed) return s + load16(packed + j * kLanes);
    return shared ? s + splat16(shared[j]) : s;
  }
};
inline Mask mask_of(const AttentionArgs& a, int64_t head, const Block& b, float* space) {
  if (!a.mask.data) return {nullptr, nullptr};
  const float* rows = head_of(a, a.mask, head) + b.first * a.mask.row;
  if (a.mask.row == 0) return {nullptr, rows};
  pack16(rows, a.mask.row, b.count, b.end, space);
  return {space, nullptr};
}

// out[c] goes on its chain over the seen keys j from … to of weights[j] rows[j][c], for C columns and N blocks, of
// which all but the first see all these keys.
template <int C, int N>
DLCORE_APART void weigh(const Block& b, int64_t from, int64_t to, Each<const float> weights, Rows<const float> rows,
                        Each<float> out) {
  Lanes acc[C][N];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) acc[c][n] = load16(out.of(n) + c * kLanes);
  int64_t j = from;
  for (const int64_t full = b.full < to ? b.full : to; j < full; ++j) {
    Lanes w[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) w[n] = load16(weights.of(n) + j * kLanes);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) add_product(acc[c][n], splat16(rows.row(j)[c]), w[n]);
  }
  if constexpr (N == 1) {
    // The corner, whose keys only lanes from `first` on see: some of one part of the lanes, and all of the parts after
    // it.
#pragma GCC unroll 2
    for (int some = 0; some < kParts; ++some) {
      for (; j < to && b.first_lane(j) < (some + 1) * W; ++j) {
        const VI seen = set_lanes(b.first_lane(j), some);
#pragma GCC unroll 2
        for (int part = some; part < kParts; ++part) {
          const VF w = load(weights.data + j * kLanes + part * W);
#pragma GCC unroll 8
          for (int c = 0; c < C; ++c) {
            const VF sum = fma(splat(rows.row(j)[c]), w, acc[c][0].v[part]);
            acc[c][0].v[part] = part == some ? select(seen, sum, acc[c][0].v[part]) : sum;
          }
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) store16(out.of(n) + c * kLanes, acc[c][n]);
}
template <int N>
void weigh_rows(const Block& b, int64_t from, int64_t to, Each<const float> weights, Rows<const float> rows,
                int64_t size, Each<float> out) {
  if (from >= to) return;
  in_runs(size, size,
          [&]<int C>(int64_t c) DLCORE_LAMBDA { weigh<C, N>(b, from, to, weights, rows.from(c), out.from(c)); });
}
// Each of its columns goes over the rows anew: as many at a time as stay in the second-level cache.
inline void weigh_all(const Blocks& all, Each<const float> weights, Rows<const float> rows, int64_t size,
                      Each<float> out) {
  const int64_t fit = 16384 / (rows.stride > 0 ? rows.stride : 1), most = fit < 128 ? 128 : fit > 512 ? 512 : fit;
  for (int n = 0; n < all.count; ++n)
    for (int64_t c = 0; c < size; ++c) store16(out.of(n) + c * kLanes, zero_lanes());
  const int64_t end = all.blocks[all.count - 1].end;
  for (int64_t from = 0; from < end; from += most) {
    const int64_t to = from + most < end ? from + most : end;
    int64_t begin = from;
    if (all.count == kTogether && kTogether > 1) {
      const int64_t full = all.blocks[0].full < to ? all.blocks[0].full : to;
      weigh_rows<kTogether>(all.blocks[0], from, full, weights, rows, size, out);
      begin = full > from ? full : from;
    }
    for (int n = 0; n < all.count; ++n) {
      const Block& b = all.blocks[n];
      weigh_rows<1>(b, begin, to < b.end ? to : b.end, {weights.of(n), 0}, rows, size, {out.of(n), 0});
    }
  }
}

// Asks for rows from … to of a head, a block's share of `count` rows: heads that stand apart are not foreseen.
template <class T>
DLCORE_INLINE void ask(const AttentionArgs& a, const AttentionRows<T>& x, int64_t head, int64_t first, int64_t rows,
                       int64_t count) {
  const T* at = head_of(a, x, head);
  const int64_t end = (first + rows) * count / a.queries;
  for (int64_t i = first * count / a.queries; i < end; ++i)
    for (int64_t c = 0; c < a.size; c += 16) __builtin_prefetch(at + i * x.row + c, 0, 2);
}

// Deals the tasks to the strands in runs, so that neighbours share k and v.
template <class F>
void deal(const AttentionArgs& a, bool backward, int64_t cycles, F f) {
  const int64_t tasks = attention_tasks(a, backward), strands = attention_strands(a, backward);
  const int64_t scratch = attention_scratch(a, backward);
  auto body = [&](int64_t strand) {
    const int64_t end = tasks * (strand + 1) / strands;
    for (int64_t task = tasks * strand / strands; task < end; ++task) f(task, a.workspace + strand * scratch);
  };
  parallel_for(strands, cycles, body);
}

void backward(const AttentionArgs& a);

}  // namespace dlcore::DLCORE_ISA::attending
