// Attention in blocks of 16 queries, one a lane: q and dout are packed so that lane i is query i, scores and their
// gradients lie as keys x 16 queries, k and v are read as they are, element by element. So every chain (over d, over
// keys) is a chain of vectors, softmax needs no reduction across a vector, and no more than 16 rows of scores ever
// exist a strand.
#include "kernels/cpu/attention.h"

#include "base/parallel.h"
#include "kernels/cpu/lanes.h"

namespace dlcore::DLCORE_ISA {

namespace {

static_assert(kQueryBlock == kLanes);
constexpr int kWide = kParts == 1 ? 8 : 6, kShort = kParts == 1 ? 8 : 4;  // accumulators of 16 lanes in a micro-kernel
constexpr float kInfinity = __builtin_inff();

// A block of queries: `count` from `first` on. Keys below `full` are seen by all, from `end` on by none, and key j
// between by the lanes from `first_lane(j)`.
struct Block {
  int64_t first, full, end, shift;
  int count;
  int first_lane(int64_t j) const { return j < full ? 0 : (int)(j - shift - first); }
};
Block block_at(const AttentionArgs& a, int64_t first) {
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

DLCORE_INLINE Lanes cap(const Lanes& a, float limit) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = at_most(a.v[part], limit);
  return r;
}
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

// out[j] = chain over d < size of packed[d] rows[j][d], for J keys.
template <int J>
DLCORE_APART void dots(const float* packed, const float* rows, int64_t stride, int64_t size, float* out) {
  Lanes acc[J];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) acc[j] = zero_lanes();
#pragma GCC unroll 2
  for (int64_t d = 0; d < size; ++d) {
    const Lanes q = load16(packed + d * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) add_product(acc[j], splat16(rows[j * stride + d]), q);
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) store16(out + j * kLanes, acc[j]);
}
void all_dots(const float* packed, const float* rows, int64_t stride, int64_t size, int64_t end, float* out) {
  in_runs(end, size,
          [&]<int J>(int64_t j) DLCORE_LAMBDA { dots<J>(packed, rows + j * stride, stride, size, out + j * kLanes); });
}

// What is added to the scores of a block: rows of the mask packed as q is, or one for all queries.
struct Mask {
  const float *packed, *shared;
  DLCORE_INLINE Lanes add(const Lanes& s, int64_t j) const {
    if (packed) return s + load16(packed + j * kLanes);
    return shared ? s + splat16(shared[j]) : s;
  }
};
Mask mask_of(const AttentionArgs& a, int64_t head, const Block& b, float* space) {
  if (!a.mask.data) return {nullptr, nullptr};
  const float* rows = head_of(a, a.mask, head) + b.first * a.mask.row;
  if (a.mask.row == 0) return {nullptr, rows};
  pack16(rows, a.mask.row, b.count, b.end, space);
  return {space, nullptr};
}

// out[c] goes on its chain over the seen keys j from … to of weights[j] rows[j][c], for C columns.
template <int C>
DLCORE_APART void weigh(const Block& b, int64_t from, int64_t to, const float* weights, const float* rows,
                        int64_t stride, float* out) {
  Lanes acc[C];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) acc[c] = load16(out + c * kLanes);
  int64_t j = from;
  for (const int64_t full = b.full < to ? b.full : to; j < full; ++j) {
    const Lanes w = load16(weights + j * kLanes);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) add_product(acc[c], splat16(rows[j * stride + c]), w);
  }
  // The corner, whose keys only lanes from `first` on see: some of one part of the lanes, and all of the parts after
  // it.
#pragma GCC unroll 2
  for (int some = 0; some < kParts; ++some) {
    for (; j < to && b.first_lane(j) < (some + 1) * W; ++j) {
      const VI seen = set_lanes(b.first_lane(j), some);
#pragma GCC unroll 2
      for (int part = some; part < kParts; ++part) {
        const VF w = load(weights + j * kLanes + part * W);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          const VF sum = fma(splat(rows[j * stride + c]), w, acc[c].v[part]);
          acc[c].v[part] = part == some ? select(seen, sum, acc[c].v[part]) : sum;
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) store16(out + c * kLanes, acc[c]);
}
// Each of its columns goes over the rows anew: as many at a time as stay in the second-level cache.
void weigh_all(const Block& b, const float* weights, const float* rows, int64_t stride, int64_t size, float* out) {
  const int64_t fit = 16384 / stride, most = fit < 128 ? 128 : fit > 512 ? 512 : fit;
  for (int64_t c = 0; c < size; ++c) store16(out + c * kLanes, zero_lanes());
  for (int64_t from = 0; from < b.end; from += most) {
    const int64_t to = from + most < b.end ? from + most : b.end;
    in_runs(size, size, [&]<int C>(int64_t c) DLCORE_LAMBDA {
      weigh<C>(b, from, to, weights, rows + c, stride, out + c * kLanes);
    });
  }
}

// The queries of `blocks` (count of them, `stride` floats of weights apart, rows after one another).
struct Blocks {
  const Block* blocks;
  int count;
  int64_t stride;
};
// out[j][c] goes on its chain over the queries i that see j, of weights[j][i] rows[i][c]: J keys, L vectors of columns,
// or `tail` columns.
template <int J, int L, bool Partial>
DLCORE_INLINE void spread(const Blocks& all, int64_t key, const float* weights, Rows<const float> rows, Rows<float> out,
                          int tail) {
  Lanes acc[J][L];
  const auto get = [&](const float* p, int l)
                       DLCORE_LAMBDA { return Partial ? load16(p, tail) : load16(p + l * kLanes); };
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int l = 0; l < L; ++l) acc[j][l] = get(out.row(key + j), l);
  for (int n = 0; n < all.count; ++n, weights += all.stride, rows.data += kLanes * rows.stride) {
    const Block& b = all.blocks[n];
    if (key >= b.end) continue;
    const int last = b.first_lane(key + J - 1), first = last - (J - 1);
    if (last > 0) {  // the corner of the triangle, where query first + m sees m + 1 of the J keys
#pragma GCC unroll 8
      for (int m = 0; m < J - 1; ++m) {
        const int i = first + m;
        if (i < 0 || i >= b.count) continue;
        Lanes x[L];
#pragma GCC unroll 2
        for (int l = 0; l < L; ++l) x[l] = get(rows.row(i), l);
#pragma GCC unroll 8
        for (int j = 0; j <= m; ++j)
#pragma GCC unroll 2
          for (int l = 0; l < L; ++l) add_product(acc[j][l], splat16(weights[j * kLanes + i]), x[l]);
      }
    }
    for (int i = last; i < b.count; ++i) {
      Lanes x[L];
#pragma GCC unroll 2
      for (int l = 0; l < L; ++l) x[l] = get(rows.row(i), l);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int l = 0; l < L; ++l) add_product(acc[j][l], splat16(weights[j * kLanes + i]), x[l]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int l = 0; l < L; ++l) {
      if (Partial)
        store16(out.row(key + j), acc[j][l], tail);
      else
        store16(out.row(key + j) + l * kLanes, acc[j][l]);
    }
}
template <int J>
DLCORE_APART void spread_keys(const Blocks& all, int64_t j, const float* weights, Rows<const float> rows, int64_t size,
                              Rows<float> out) {
  constexpr int kPart = kParts == 1 ? J : (J + 1) / 2;  // AVX2 holds masks in registers of vectors
  weights += j * kLanes;
  int64_t c = 0;
  if constexpr (kParts == 1)
    for (; c + 2 * kLanes <= size; c += 2 * kLanes)
      spread<J, 2, false>(all, j, weights, rows.from(c), out.from(c), kLanes);
  for (; c + kLanes <= size; c += kLanes) spread<J, 1, false>(all, j, weights, rows.from(c), out.from(c), kLanes);
  if (c < size)
    for (int k = 0; k < J; k += kPart)
      spread<kPart, 1, true>(all, j + k, weights + k * kLanes, rows.from(c), out.from(c), (int)(size - c));
}
void spread_all(const Blocks& all, const float* weights, Rows<const float> rows, int64_t size, Rows<float> out) {
  const int64_t end = all.blocks[all.count - 1].end;
  in_runs(end, size, [&]<int J>(int64_t j) DLCORE_LAMBDA { spread_keys<J>(all, j, weights, rows, size, out); });
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

void forward_block(const AttentionArgs& a, int64_t head, int64_t first, float* scratch) {
  const Block b = block_at(a, first);
  const int64_t size = a.size;
  if (a.k.row != size && head + 1 < a.heads) {
    ask(a, a.q, head + 1, first, b.count, a.queries);
    ask(a, a.k, head + 1, first, b.count, a.keys);
    ask(a, a.v, head + 1, first, b.count, a.keys);
  }
  float *packed = scratch, *result = packed + size * kLanes, *scores = result + size * kLanes;
  const Mask mask = mask_of(a, head, b, scores + a.keys * kLanes);
  pack16(head_of(a, a.q, head) + first * a.q.row, a.q.row, b.count, size, packed);
  all_dots(packed, head_of(a, a.k, head), a.k.row, size, b.end, scores);

  const Lanes scale = splat16(a.scale), least = splat16(-kInfinity);
  Lanes m = least;
  for (int64_t j = 0; j < b.full; ++j) {
    const Lanes s = mask.add(scale * load16(scores + j * kLanes), j);
    store16(scores + j * kLanes, s);
    m = larger(s, m);
  }
  for (int64_t j = b.full; j < b.end; ++j) {
    const Lanes s = from_lane(b.first_lane(j), mask.add(scale * load16(scores + j * kLanes), j), least);
    store16(scores + j * kLanes, s);
    m = larger(s, m);
  }
  m = replace(m, -kInfinity, 0.0f);  // nothing seen, or only -inf: all exponentials are 0 then, and not NaN

  Lanes sum[kLanes];
  for (int l = 0; l < kLanes; ++l) sum[l] = zero_lanes();
  for (int64_t j = 0; j < b.end; ++j) {
    Lanes e = quick_exp(load16(scores + j * kLanes) - m);
    if (j >= b.full) e = from_lane(b.first_lane(j), e, zero_lanes());
    store16(scores + j * kLanes, e);
    sum[j % kLanes] = sum[j % kLanes] + e;
  }
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int l = 0; l < step; ++l) sum[l] = sum[l] + sum[l + step];

  Lanes inverse, lse;
  DLCORE_EACH_PART {
    const VF l = sum[0].v[part];
    inverse.v[part] = select(l == VF{}, VF{}, 1.0f / l);
    lse.v[part] = select(l == VF{}, splat(-kInfinity), m.v[part] + log(l));
  }
  store16(a.lse + head * a.queries + first, lse, b.count);
  weigh_all(b, scores, head_of(a, a.v, head), a.v.row, size, result);
  for (int64_t c = 0; c < size; ++c) store16(result + c * kLanes, load16(result + c * kLanes) * inverse);
  unpack16(result, size, head_of(a, a.out, head) + first * a.out.row, a.out.row, b.count);
}

// p and ds of a block, and its dq.
void backward_block(const AttentionArgs& a, int64_t head, const Block& b, Rows<const float> k, Rows<const float> v,
                    float* scratch, float* p, float* ds) {
  const int64_t size = a.size;
  float *packed_q = scratch, *packed_dout = packed_q + size * kLanes, *result = packed_dout + size * kLanes;
  const float* dout = head_of(a, a.dout, head) + b.first * a.dout.row;
  const float* out = head_of(a, a.out, head) + b.first * a.out.row;
  pack16(head_of(a, a.q, head) + b.first * a.q.row, a.q.row, b.count, size, packed_q);
  pack16(dout, a.dout.row, b.count, size, packed_dout);
  const Mask mask = mask_of(a, head, b, result + size * kLanes);

  float deltas[kLanes] = {};
  for (int i = 0; i < b.count; ++i) {
    const float *x = dout + i * a.dout.row, *y = out + i * a.out.row;
    Lanes sum = zero_lanes();
    int64_t c = 0;
    for (; c + kLanes <= size; c += kLanes) sum = fma(load16(x + c), load16(y + c), sum);
    if (c < size) {
      const int n = (int)(size - c);
      sum = fma(load16(x + c, n), load16(y + c, n), sum);
    }
    deltas[i] = tree_sum(sum);
  }

  all_dots(packed_q, k.data, k.stride, size, b.end, p);
  all_dots(packed_dout, v.data, v.stride, size, b.end, ds);
  const Lanes scale = splat16(a.scale), delta = load16(deltas);
  const Lanes lse = replace(load16(a.lse + head * a.queries + b.first, b.count), -kInfinity, 0.0f);
  for (int64_t j = 0; j < b.end; ++j) {
    const Lanes e = quick_exp(cap(mask.add(scale * load16(p + j * kLanes), j) - lse, 87.0f));
    store16(p + j * kLanes, e);
    store16(ds + j * kLanes, (e * (load16(ds + j * kLanes) - delta)) * scale);
  }
  weigh_all(b, ds, k.data, k.stride, size, result);
  unpack16(result, size, head_of(a, a.dq, head) + b.first * a.dq.row, a.dq.row, b.count);
}

void copy_rows(Rows<const float> from, Rows<float> to, int64_t count, int64_t size) {
  for (int64_t i = 0; i < count; ++i) {
    int64_t c = 0;
    for (; c + kLanes <= size; c += kLanes) store16(to.row(i) + c, load16(from.row(i) + c));
    if (c < size) store16(to.row(i) + c, load16(from.row(i) + c, (int)(size - c)), (int)(size - c));
  }
}

void backward_head(const AttentionArgs& a, int64_t head, float* scratch) {
  const int64_t size = a.size, stride = a.keys * kLanes, values = a.keys * size;
  const bool gathers = attention_gathers(a);
  const Rows<const float> k = {head_of(a, a.k, head), a.k.row}, v = {head_of(a, a.v, head), a.v.row};
  const Rows<float> dk = {head_of(a, a.dk, head), a.dk.row}, dv = {head_of(a, a.dv, head), a.dv.row};
  Rows<const float> near_k = k, near_v = v;
  Rows<float> near_dk = dk, near_dv = dv;
  if (gathers) {
    const Rows<float> space = {scratch, size};
    copy_rows(k, space, a.keys, size);
    copy_rows(v, space.from(values), a.keys, size);
    near_k = {scratch, size}, near_v = {scratch + values, size};
    near_dk = space.from(2 * values), near_dv = space.from(3 * values);
    scratch += 4 * values;
  }
  __builtin_memset(near_dk.data, 0, sizeof(float) * (size_t)values);
  __builtin_memset(near_dv.data, 0, sizeof(float) * (size_t)values);
  float *p = scratch, *ds = p + kBackwardBlocks * stride, *rest = ds + kBackwardBlocks * stride;
  for (int64_t first = 0; first < a.queries; first += kBackwardBlocks * kLanes) {
    Block blocks[kBackwardBlocks];
    int count = 0;
    for (; count < kBackwardBlocks && first + count * kLanes < a.queries; ++count) {
      blocks[count] = block_at(a, first + count * kLanes);
      if (gathers && head + 1 < a.heads) {
        ask(a, a.q, head + 1, first + count * kLanes, blocks[count].count, a.queries);
        ask(a, a.dout, head + 1, first + count * kLanes, blocks[count].count, a.queries);
        ask(a, a.out, head + 1, first + count * kLanes, blocks[count].count, a.queries);
        ask(a, a.k, head + 1, first + count * kLanes, blocks[count].count, a.keys);
        ask(a, a.v, head + 1, first + count * kLanes, blocks[count].count, a.keys);
      }
      backward_block(a, head, blocks[count], near_k, near_v, rest, p + count * stride, ds + count * stride);
    }
    const Rows<const float> dout = {head_of(a, a.dout, head) + first * a.dout.row, a.dout.row};
    const Rows<const float> q = {head_of(a, a.q, head) + first * a.q.row, a.q.row};
    spread_all({blocks, count, stride}, p, dout, size, near_dv);
    spread_all({blocks, count, stride}, ds, q, size, near_dk);
  }
  if (gathers) {
    copy_rows({near_dk.data, size}, dk, a.keys, size);
    copy_rows({near_dv.data, size}, dv, a.keys, size);
  }
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

void forward(const AttentionArgs& a) {
  const int64_t blocks = (a.queries + kQueryBlock - 1) / kQueryBlock;
  deal(a, false, a.heads * a.queries * a.keys * (a.size / 8 + 2),
       [&](int64_t task, float* scratch) { forward_block(a, task / blocks, task % blocks * kQueryBlock, scratch); });
}

void backward(const AttentionArgs& a) {
  deal(a, true, a.heads * a.queries * a.keys * (a.size / 4 + 2),
       [&](int64_t head, float* scratch) { backward_head(a, head, scratch); });
}

}  // namespace

const AttentionTable attention_table = {forward, backward};

}  // namespace dlcore::DLCORE_ISA
