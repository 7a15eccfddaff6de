// The gradients of attention: a head is a task, blocks of queries are added to dk and dv together.
#include "kernels/cpu/isa/attention_parts.h"

namespace dlcore::DLCORE_ISA::attending {

namespace {

// out[j][c] goes on its chain over the queries i that see j, of weights[j][i] rows[i][c]: J keys, L vectors of columns,
// or `tail` columns.
template <int J, int L, bool Partial>
DLCORE_INLINE void spread(const Blocks& all, int64_t key, Each<const float> weights, Rows<const float> rows,
                          Rows<float> out, int tail) {
  Lanes acc[J][L];
  const auto get = [&](const float* p, int l)
                       DLCORE_LAMBDA { return Partial ? load16(p, tail) : load16(p + l * kLanes); };
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int l = 0; l < L; ++l) acc[j][l] = get(out.row(key + j), l);
  for (int n = 0; n < all.count; ++n, weights.data += weights.next, rows.data += kLanes * rows.stride) {
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
          for (int l = 0; l < L; ++l) add_product(acc[j][l], splat16(weights.data[j * kLanes + i]), x[l]);
      }
    }
    for (int i = last; i < b.count; ++i) {
      Lanes x[L];
#pragma GCC unroll 2
      for (int l = 0; l < L; ++l) x[l] = get(rows.row(i), l);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
        for (int l = 0; l < L; ++l) add_product(acc[j][l], splat16(weights.data[j * kLanes + i]), x[l]);
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
DLCORE_APART void spread_keys(const Blocks& all, int64_t j, Each<const float> weights, Rows<const float> rows,
                              int64_t size, Rows<float> out) {
  constexpr int kPart = kParts == 1 ? J : (J + 1) / 2;  // AVX2 holds masks in registers of vectors
  weights = weights.from(j);
  int64_t c = 0;
  if constexpr (kParts == 1)
    for (; c + 2 * kLanes <= size; c += 2 * kLanes)
      spread<J, 2, false>(all, j, weights, rows.from(c), out.from(c), kLanes);
  for (; c + kLanes <= size; c += kLanes) spread<J, 1, false>(all, j, weights, rows.from(c), out.from(c), kLanes);
  if (c < size)
    for (int k = 0; k < J; k += kPart)
      spread<kPart, 1, true>(all, j + k, weights.from(k), rows.from(c), out.from(c), (int)(size - c));
}
void spread_all(const Blocks& all, Each<const float> weights, Rows<const float> rows, int64_t size, Rows<float> out) {
  const int64_t end = all.blocks[all.count - 1].end;
  in_runs(end, size, [&]<int J>(int64_t j) DLCORE_LAMBDA { spread_keys<J>(all, j, weights, rows, size, out); });
}

DLCORE_INLINE Lanes cap(const Lanes& a, float limit) {
  Lanes r;
  DLCORE_EACH_PART r.v[part] = at_most(a.v[part], limit);
  return r;
}

// A block's probabilities in the place of its scores, and the gradient of those in that of the probabilities'.
void backward_scores(const AttentionArgs& a, int64_t head, const Block& b, const Mask& mask, float* p, float* ds) {
  const int64_t size = a.size;
  const float* dout = head_of(a, a.dout, head) + b.first * a.dout.row;
  const float* out = head_of(a, a.out, head) + b.first * a.out.row;
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

  const Lanes scale = splat16(a.scale), delta = load16(deltas);
  const Lanes lse = replace(load16(a.lse + head * a.queries + b.first, b.count), -kInfinity, 0.0f);
  for (int64_t j = 0; j < b.end; ++j) {
    const Lanes e = quick_exp(cap(mask.add(scale * load16(p + j * kLanes), j) - lse, 87.0f));
    store16(p + j * kLanes, e);
    store16(ds + j * kLanes, (e * (load16(ds + j * kLanes) - delta)) * scale);
  }
}

// p and ds of blocks, and their dq.
void backward_blocks(const AttentionArgs& a, int64_t head, const Blocks& all, Rows<const float> k, Rows<const float> v,
                     float* scratch, Each<float> p, Each<float> ds) {
  const int64_t size = a.size;
  const Each<float> packed_q{scratch, size * kLanes}, packed_dout{packed_q.of(kBackwardBlocks), size * kLanes},
      result{packed_dout.of(kBackwardBlocks), size * kLanes};
  float* space = result.of(kBackwardBlocks);
  for (int n = 0; n < all.count; ++n) {
    const Block& b = all.blocks[n];
    pack16(head_of(a, a.q, head) + b.first * a.q.row, a.q.row, b.count, size, packed_q.of(n));
    pack16(head_of(a, a.dout, head) + b.first * a.dout.row, a.dout.row, b.count, size, packed_dout.of(n));
  }
  all_dots(all, packed_q, k, size, p);
  all_dots(all, packed_dout, v, size, ds);
  for (int n = 0; n < all.count; ++n)
    backward_scores(a, head, all.blocks[n], mask_of(a, head, all.blocks[n], space), p.of(n), ds.of(n));
  weigh_all(all, ds, k, size, result);
  for (int n = 0; n < all.count; ++n)
    unpack16(result.of(n), size, head_of(a, a.dq, head) + all.blocks[n].first * a.dq.row, a.dq.row,
             all.blocks[n].count);
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
  const Each<float> p{scratch, stride}, ds{p.of(kBackwardBlocks), stride};
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
    }
    const Blocks all{blocks, count};
    backward_blocks(a, head, all, near_k, near_v, ds.of(kBackwardBlocks), p, ds);
    const Rows<const float> dout = {head_of(a, a.dout, head) + first * a.dout.row, a.dout.row};
    const Rows<const float> q = {head_of(a, a.q, head) + first * a.q.row, a.q.row};
    spread_all(all, p, dout, size, near_dv);
    spread_all(all, ds, q, size, near_dk);
  }
  if (gathers) {
    copy_rows({near_dk.data, size}, dk, a.keys, size);
    copy_rows({near_dv.data, size}, dv, a.keys, size);
  }
}

}  // namespace

void backward(const AttentionArgs& a) {
  deal(a, true, a.heads * a.queries * a.keys * (a.size / 4 + 2),
       [&](int64_t head, float* scratch) { backward_head(a, head, scratch); });
}

}  // namespace dlcore::DLCORE_ISA::attending
