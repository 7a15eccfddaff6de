// Attention in blocks of 16 queries, one a lane: q and dout are packed so that lane i is query i, scores and their
// gradients lie as keys x 16 queries, k and v are read as they are, element by element. So every chain (over d, over
// keys) is a chain of vectors, softmax needs no reduction across a vector, and no more than 16 rows of scores ever
// exist a strand.
#include "kernels/cpu/attention.h"

#include "base/parallel.h"
#include "kernels/cpu/lanes.h"
#include "kernels/quick_exp.h"

namespace dlcore::DLCORE_ISA {

namespace {

static_assert(kQueryBlock == kLanes);
constexpr int kWide = kParts == 1 ? 8 : 4;  // accumulators of 16 lanes in a micro-kernel
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

DLCORE_INLINE Lanes exp16(const Lanes& a) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = quick_exp(a.v[part]);
  return r;
}
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

// out[j] = chain over d of packed[d] rows[j][d], for J keys.
template <int J>
DLCORE_INLINE void dots(const float* packed, const float* rows, int64_t size, float* out) {
  Lanes acc[J];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) acc[j] = zero_lanes();
  for (int64_t d = 0; d < size; ++d) {
    const Lanes q = load16(packed + d * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) acc[j] = fma(q, splat16(rows[j * size + d]), acc[j]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) store16(out + j * kLanes, acc[j]);
}
void all_dots(const float* packed, const float* rows, int64_t size, int64_t end, float* out) {
  int64_t j = 0;
  for (; j + kWide <= end; j += kWide) dots<kWide>(packed, rows + j * size, size, out + j * kLanes);
  for (; j + 2 <= end; j += 2) dots<2>(packed, rows + j * size, size, out + j * kLanes);
  for (; j < end; ++j) dots<1>(packed, rows + j * size, size, out + j * kLanes);
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
  if (!a.mask) return {nullptr, nullptr};
  const float* rows = a.mask_rows(head, b.first);
  if (a.mask_query == 0) return {nullptr, rows};
  pack16(rows, a.mask_query, b.count, b.end, space);
  return {space, nullptr};
}

// out[d] = chain over the seen keys j of weights[j] rows[j][d], for C columns.
template <int C>
DLCORE_INLINE void weigh(const Block& b, const float* weights, const float* rows, int64_t size, float* out) {
  Lanes acc[C];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) acc[c] = zero_lanes();
  for (int64_t j = 0; j < b.full; ++j) {
    const Lanes w = load16(weights + j * kLanes);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[c] = fma(w, splat16(rows[j * size + c]), acc[c]);
  }
  for (int64_t j = b.full; j < b.end; ++j) {
    const Lanes w = load16(weights + j * kLanes);
    const int from = b.first_lane(j);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[c] = from_lane(from, fma(w, splat16(rows[j * size + c]), acc[c]), acc[c]);
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) store16(out + c * kLanes, acc[c]);
}
void weigh_all(const Block& b, const float* weights, const float* rows, int64_t size, float* out) {
  int64_t c = 0;
  for (; c + kWide <= size; c += kWide) weigh<kWide>(b, weights, rows + c, size, out + c * kLanes);
  for (; c + 2 <= size; c += 2) weigh<2>(b, weights, rows + c, size, out + c * kLanes);
  for (; c < size; ++c) weigh<1>(b, weights, rows + c, size, out + c * kLanes);
}

// The queries of `blocks` (count of them, `stride` floats of weights apart, rows after one another).
struct Blocks {
  const Block* blocks;
  int count;
  int64_t stride;
};

// out[j][c] goes on its chain over the queries i that see j, of weights[j][i] rows[i][c]: J keys, L vectors of columns
// (the last of `tail` columns).
template <int J, int L>
DLCORE_INLINE void spread(const Blocks& all, int64_t key, const float* weights, const float* rows, int64_t size,
                          float* out, int tail) {
  Lanes acc[J][L];
  const auto get = [&](const float* p, int l) __attribute__((always_inline)) {
    return L > 1 || tail == kLanes ? load16(p + l * kLanes) : load16(p, tail);
  };
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int l = 0; l < L; ++l) acc[j][l] = get(out + j * size, l);
  for (int n = 0; n < all.count; ++n, weights += all.stride, rows += kLanes * size) {
    const Block& b = all.blocks[n];
    if (key >= b.end) continue;
    const int last = b.first_lane(key + J - 1);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j)  // the corner of the triangle, where only some of the J keys are seen
      for (int i = b.first_lane(key + j); i < last && i < b.count; ++i)
#pragma GCC unroll 2
        for (int l = 0; l < L; ++l)
          acc[j][l] = fma(splat16(weights[j * kLanes + i]), get(rows + i * size, l), acc[j][l]);
    for (int i = last; i < b.count; ++i) {
      Lanes x[L];
#pragma GCC unroll 2
      for (int l = 0; l < L; ++l) x[l] = get(rows + i * size, l);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int l = 0; l < L; ++l) acc[j][l] = fma(splat16(weights[j * kLanes + i]), x[l], acc[j][l]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int l = 0; l < L; ++l) {
      if (L > 1 || tail == kLanes)
        store16(out + j * size + l * kLanes, acc[j][l]);
      else
        store16(out + j * size, acc[j][l], tail);
    }
}
template <int J>
DLCORE_INLINE void spread_keys(const Blocks& all, int64_t j, const float* weights, const float* rows, int64_t size,
                               float* out) {
  int64_t c = 0;
  if constexpr (kParts == 1)
    for (; c + 2 * kLanes <= size; c += 2 * kLanes)
      spread<J, 2>(all, j, weights + j * kLanes, rows + c, size, out + j * size + c, kLanes);
  for (; c + kLanes <= size; c += kLanes)
    spread<J, 1>(all, j, weights + j * kLanes, rows + c, size, out + j * size + c, kLanes);
  if (c < size) spread<J, 1>(all, j, weights + j * kLanes, rows + c, size, out + j * size + c, (int)(size - c));
}
void spread_all(const Blocks& all, const float* weights, const float* rows, int64_t size, float* out) {
  const int64_t end = all.blocks[all.count - 1].end;
  int64_t j = 0;
  for (; j + kWide <= end; j += kWide) spread_keys<kWide>(all, j, weights, rows, size, out);
  for (; j < end; ++j) spread_keys<1>(all, j, weights, rows, size, out);
}

void forward_block(const AttentionArgs& a, int64_t head, int64_t first, float* scratch) {
  const Block b = block_at(a, first);
  const int64_t size = a.size, row = head * a.queries + first;
  const float *k = a.k + head * a.keys * size, *v = a.v + head * a.keys * size;
  float *packed = scratch, *result = packed + size * kLanes, *scores = result + size * kLanes;
  const Mask mask = mask_of(a, head, b, scores + a.keys * kLanes);
  pack16(a.q + row * size, size, b.count, size, packed);
  all_dots(packed, k, size, b.end, scores);

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
    Lanes e = exp16(load16(scores + j * kLanes) - m);
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
  store16(a.lse + row, lse, b.count);
  weigh_all(b, scores, v, size, result);
  for (int64_t c = 0; c < size; ++c) store16(result + c * kLanes, load16(result + c * kLanes) * inverse);
  unpack16(result, size, a.out + row * size, size, b.count);
}

// p and ds of a block, and its dq.
void backward_block(const AttentionArgs& a, int64_t head, const Block& b, float* scratch, float* p, float* ds) {
  const int64_t size = a.size, row = head * a.queries + b.first, keys = head * a.keys * size;
  float *packed_q = scratch, *packed_dout = packed_q + size * kLanes, *result = packed_dout + size * kLanes;
  const float *dout = a.dout + row * size, *out = a.out + row * size;
  pack16(a.q + row * size, size, b.count, size, packed_q);
  pack16(dout, size, b.count, size, packed_dout);
  const Mask mask = mask_of(a, head, b, result + size * kLanes);

  float deltas[kLanes] = {};
  for (int i = 0; i < b.count; ++i) {
    Lanes sum = zero_lanes();
    int64_t c = 0;
    for (; c + kLanes <= size; c += kLanes) sum = fma(load16(dout + i * size + c), load16(out + i * size + c), sum);
    if (c < size) {
      const int n = (int)(size - c);
      sum = fma(load16(dout + i * size + c, n), load16(out + i * size + c, n), sum);
    }
    deltas[i] = tree_sum(sum);
  }

  all_dots(packed_q, a.k + keys, size, b.end, p);
  all_dots(packed_dout, a.v + keys, size, b.end, ds);
  const Lanes scale = splat16(a.scale), delta = load16(deltas);
  const Lanes lse = replace(load16(a.lse + row, b.count), -kInfinity, 0.0f);
  for (int64_t j = 0; j < b.end; ++j) {
    const Lanes e = exp16(cap(mask.add(scale * load16(p + j * kLanes), j) - lse, 87.0f));
    store16(p + j * kLanes, e);
    store16(ds + j * kLanes, (e * (load16(ds + j * kLanes) - delta)) * scale);
  }
  weigh_all(b, ds, a.k + keys, size, result);
  unpack16(result, size, a.dq + row * size, size, b.count);
}

void backward_head(const AttentionArgs& a, int64_t head, float* scratch) {
  const int64_t size = a.size, values = a.keys * size, stride = a.keys * kLanes;
  float *dk = a.dk + head * values, *dv = a.dv + head * values;
  __builtin_memset(dk, 0, sizeof(float) * (size_t)values);
  __builtin_memset(dv, 0, sizeof(float) * (size_t)values);
  float *p = scratch, *ds = p + kBackwardBlocks * stride, *rest = ds + kBackwardBlocks * stride;
  for (int64_t first = 0; first < a.queries; first += kBackwardBlocks * kLanes) {
    Block blocks[kBackwardBlocks];
    int count = 0;
    for (; count < kBackwardBlocks && first + count * kLanes < a.queries; ++count) {
      blocks[count] = block_at(a, first + count * kLanes);
      backward_block(a, head, blocks[count], rest, p + count * stride, ds + count * stride);
    }
    const int64_t row = (head * a.queries + first) * size;
    spread_all({blocks, count, stride}, p, a.dout + row, size, dv);
    spread_all({blocks, count, stride}, ds, a.q + row, size, dk);
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
