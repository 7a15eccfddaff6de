// Attention, forward.
#include "kernels/cpu/isa/attention_parts.h"

namespace dlcore::DLCORE_ISA {

namespace attending {
namespace {

// A block's scores become exponentials, their logarithm of the sum is stored, and its inverse returned.
Lanes exponentials(const AttentionArgs& a, int64_t head, const Block& b, const Mask& mask, float* scores) {
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
  store16(a.lse + head * a.queries + b.first, lse, b.count);
  return inverse;
}

// Up to kForwardBlocks blocks of queries.
void forward_blocks(const AttentionArgs& a, int64_t head, int64_t first, float* scratch) {
  Block blocks[kForwardBlocks];
  Blocks all{blocks, 0};
  const int64_t size = a.size;
  const Rows<const float> k = {head_of(a, a.k, head), a.k.row}, v = {head_of(a, a.v, head), a.v.row};
  const Each<float> packed{scratch, size * kLanes}, result{packed.of(kForwardBlocks), size * kLanes},
      scores{result.of(kForwardBlocks), a.keys * kLanes};
  float* space = scores.of(kForwardBlocks);
  for (; all.count < kForwardBlocks && first < a.queries; ++all.count, first += kLanes) {
    const Block& b = blocks[all.count] = block_at(a, first);
    if (a.k.row != size && head + 1 < a.heads) {
      ask(a, a.q, head + 1, first, b.count, a.queries);
      ask(a, a.k, head + 1, first, b.count, a.keys);
      ask(a, a.v, head + 1, first, b.count, a.keys);
    }
    pack16(head_of(a, a.q, head) + first * a.q.row, a.q.row, b.count, size, packed.of(all.count));
  }
  all_dots(all, packed, k, size, scores);
  Lanes inverse[kForwardBlocks];
  for (int n = 0; n < all.count; ++n)
    inverse[n] = exponentials(a, head, blocks[n], mask_of(a, head, blocks[n], space), scores.of(n));
  weigh_all(all, scores, v, size, result);
  for (int n = 0; n < all.count; ++n) {
    float* to = result.of(n);
    for (int64_t c = 0; c < size; ++c) store16(to + c * kLanes, load16(to + c * kLanes) * inverse[n]);
    unpack16(to, size, head_of(a, a.out, head) + blocks[n].first * a.out.row, a.out.row, blocks[n].count);
  }
}

void forward(const AttentionArgs& a) {
  constexpr int64_t kTask = kForwardBlocks * kQueryBlock;  // queries
  const int64_t tasks = (a.queries + kTask - 1) / kTask;
  deal(a, false, a.heads * a.queries * a.keys * (a.size / 8 + 2),
       [&](int64_t task, float* scratch) { forward_blocks(a, task / tasks, task % tasks * kTask, scratch); });
}

}  // namespace
}  // namespace attending

const AttentionTable attention_table = {attending::forward, attending::backward};

}  // namespace dlcore::DLCORE_ISA
