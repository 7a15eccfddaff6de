// Batch normalisation of outer x channels x inner. Each channel's sums are chains in blocks of 512 elements, so vectors
// run across 16 channels: straight from memory where channels are last (inner = 1), through transposed 16 x 16 tiles
// where not.
#include "base/parallel.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/norm.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int64_t kChunkElements = 16384;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The coefficients of a channel, in the workspace after the block sums.
struct Coefficients {
  float *mean, *rstd, *a, *b;
};
Coefficients coefficients(const BatchNormArgs& s) {
  float* p = s.workspace + 2 * blocks_of(s.outer * s.inner) * s.channels;
  return {p, p + s.channels, p + 2 * s.channels, p + 3 * s.channels};
}

enum class Sum { X, Squares, Grads };

// One link of the chains of 16 channels.
template <Sum kind>
DLCORE_INLINE void link(const Lanes& x, const Lanes& dy, const Lanes& mean, const Lanes& rstd, Lanes& p, Lanes& q) {
  if constexpr (kind == Sum::X) {
    p = p + x;
  } else if constexpr (kind == Sum::Squares) {
    const Lanes d = x - mean;
    p = fma(d, d, p);
  } else {
    p = fma(dy, (x - mean) * rstd, p);
    q = q + dy;
  }
}

// Channels last: elements [from, to) of channels [c, c + n), n = 16 L or, with L = 1, less.
template <Sum kind, int L>
DLCORE_INLINE void last_chain(const BatchNormArgs& s, int64_t from, int64_t to, int64_t c, int n, float* p_out,
                              float* q_out) {
  const Coefficients k = coefficients(s);
  Lanes p[L], q[L], mean[L], rstd[L];
#pragma GCC unroll 4
  for (int l = 0; l < L; ++l) {
    p[l] = q[l] = mean[l] = rstd[l] = zero_lanes();
    if (kind != Sum::X) mean[l] = L > 1 ? load16(k.mean + c + l * kLanes) : load16(k.mean + c, n);
    if (kind == Sum::Grads) rstd[l] = L > 1 ? load16(k.rstd + c + l * kLanes) : load16(k.rstd + c, n);
  }
  for (int64_t e = from; e < to; ++e) {
    const int64_t at = e * s.channels + c;
#pragma GCC unroll 4
    for (int l = 0; l < L; ++l) {
      const Lanes x = L > 1 ? load16(s.x + at + l * kLanes) : load16(s.x + at, n);
      Lanes dy = x;
      if (kind == Sum::Grads) dy = L > 1 ? load16(s.dy + at + l * kLanes) : load16(s.dy + at, n);
      link<kind>(x, dy, mean[l], rstd[l], p[l], q[l]);
    }
  }
#pragma GCC unroll 4
  for (int l = 0; l < L; ++l) {
    const int have = L > 1 ? kLanes : n;
    store16(p_out + c + l * kLanes, p[l], have);
    if (kind == Sum::Grads) store16(q_out + c + l * kLanes, q[l], have);
  }
}

template <Sum kind>
void last_block(const BatchNormArgs& s, int64_t from, int64_t to, int64_t c, int64_t c_end, float* p, float* q) {
  constexpr int kMany = kParts == 1 ? 4 : 2;
  for (; c + kMany * kLanes <= c_end; c += kMany * kLanes)
    last_chain<kind, kMany>(s, from, to, c, kMany * kLanes, p, q);
  for (; c < c_end; c += kLanes) last_chain<kind, 1>(s, from, to, c, (int)smaller(c_end - c, kLanes), p, q);
}

// Channels first: elements [from, to) of channels [c, c + n), n <= 16.
template <Sum kind>
void first_block(const BatchNormArgs& s, int64_t from, int64_t to, int64_t c, int n, float* p_out, float* q_out) {
  const Coefficients k = coefficients(s);
  Lanes p = zero_lanes(), q = zero_lanes(), mean = zero_lanes(), rstd = zero_lanes();
  if (kind != Sum::X) mean = load16(k.mean + c, n);
  if (kind == Sum::Grads) rstd = load16(k.rstd + c, n);
  float tile_x[64 * kLanes], tile_dy[64 * kLanes];
  for (int64_t e = from; e < to;) {
    const int64_t o = e / s.inner, i = e % s.inner;
    const int64_t run = smaller(smaller(s.inner - i, to - e), 64);
    const int64_t at = (o * s.channels + c) * s.inner + i;
    pack16(s.x + at, s.inner, n, run, tile_x);
    if (kind == Sum::Grads) pack16(s.dy + at, s.inner, n, run, tile_dy);
    for (int64_t j = 0; j < run; ++j) {
      const Lanes x = load16(tile_x + j * kLanes);
      link<kind>(x, kind == Sum::Grads ? load16(tile_dy + j * kLanes) : x, mean, rstd, p, q);
    }
    e += run;
  }
  store16(p_out + c, p, n);
  if (kind == Sum::Grads) store16(q_out + c, q, n);
}

// Both sums of all blocks into the workspace, then added in ascending order into p and q.
template <Sum kind>
void sums(const BatchNormArgs& s, float* p_sum, float* q_sum) {
  const int64_t n = s.outer * s.inner, blocks = blocks_of(n);
  const int64_t strip = s.inner == 1 ? 64 : kLanes, strips = (s.channels + strip - 1) / strip;
  const auto p = [&](int64_t block) { return s.workspace + 2 * block * s.channels; };
  const auto q = [&](int64_t block) { return s.workspace + (2 * block + 1) * s.channels; };
  auto body = [&](int64_t chunk) {
    const int64_t block = chunk / strips, c = chunk % strips * strip;
    const int64_t from = block * kBlockRows, to = smaller(from + kBlockRows, n), c_end = smaller(c + strip, s.channels);
    if (s.inner == 1)
      last_block<kind>(s, from, to, c, c_end, p(block), q(block));
    else
      first_block<kind>(s, from, to, c, (int)(c_end - c), p(block), q(block));
  };
  parallel_for(blocks * strips, n * s.channels / 2, body);
  for (int64_t c = 0; c < s.channels; ++c) {
    p_sum[c] = blocks > 0 ? p(0)[c] : 0.0f;
    if (kind == Sum::Grads) q_sum[c] = blocks > 0 ? q(0)[c] : 0.0f;
  }
  for (int64_t block = 1; block < blocks; ++block)
    for (int64_t c = 0; c < s.channels; ++c) {
      p_sum[c] += p(block)[c];
      if (kind == Sum::Grads) q_sum[c] += q(block)[c];
    }
}

// y = fma((x - mean) rstd, a, b), or dx = factor ((dy - a) - ((x - mean) rstd) b) with the factor in `factor`.
template <bool backward>
DLCORE_INLINE Lanes apply(const Lanes& x, const Lanes& dy, const Lanes& mean, const Lanes& rstd, const Lanes& a,
                          const Lanes& b, const Lanes& factor) {
  const Lanes h = (x - mean) * rstd;
  if constexpr (backward)
    return factor * ((dy - a) - h * b);
  else
    return fma(h, a, b);
}

// The element-wise pass; `factor` is gamma rstd (backward).
template <bool backward>
void elements(const BatchNormArgs& s, const float* a, const float* b, const float* factor) {
  const Coefficients k = coefficients(s);
  float* out = backward ? s.dx : s.y;
  if (s.inner == 1) {
    const int64_t step = kChunkElements / (s.channels + 1) + 1;
    auto body = [&](int64_t chunk) {
      const int64_t to = smaller((chunk + 1) * step, s.outer), full = s.channels / kLanes * kLanes;
      const int tail = (int)(s.channels - full);
      for (int64_t row = chunk * step; row < to; ++row) {
        const int64_t at = row * s.channels;
        for (int64_t c = 0; c < full; c += kLanes) {
          const Lanes x = load16(s.x + at + c), dy = backward ? load16(s.dy + at + c) : x;
          store16(out + at + c, apply<backward>(x, dy, load16(k.mean + c), load16(k.rstd + c), load16(a + c),
                                                load16(b + c), backward ? load16(factor + c) : x));
        }
        if (tail) {
          const Lanes x = load16(s.x + at + full, tail), dy = backward ? load16(s.dy + at + full, tail) : x;
          store16(
              out + at + full,
              apply<backward>(x, dy, load16(k.mean + full, tail), load16(k.rstd + full, tail), load16(a + full, tail),
                              load16(b + full, tail), backward ? load16(factor + full, tail) : x),
              tail);
        }
      }
      if (!backward && s.epilogue)
        s.epilogue->range(*s.epilogue, chunk * step * s.channels, (to - chunk * step) * s.channels);
    };
    parallel_for((s.outer + step - 1) / step, s.outer * s.channels / 2, body);
    return;
  }
  const int64_t planes = s.outer * s.channels, step = kChunkElements / (s.inner + 1) + 1;
  auto body = [&](int64_t chunk) {
    const int64_t to = smaller((chunk + 1) * step, planes);
    for (int64_t plane = chunk * step; plane < to; ++plane) {
      const int64_t c = plane % s.channels, at = plane * s.inner;
      const Lanes mean = splat16(k.mean[c]), rstd = splat16(k.rstd[c]), av = splat16(a[c]), bv = splat16(b[c]),
                  fv = backward ? splat16(factor[c]) : av;
      int64_t i = 0;
      for (; i + kLanes <= s.inner; i += kLanes) {
        const Lanes x = load16(s.x + at + i), dy = backward ? load16(s.dy + at + i) : x;
        store16(out + at + i, apply<backward>(x, dy, mean, rstd, av, bv, fv));
      }
      if (i < s.inner) {
        const int n = (int)(s.inner - i);
        const Lanes x = load16(s.x + at + i, n), dy = backward ? load16(s.dy + at + i, n) : x;
        store16(out + at + i, apply<backward>(x, dy, mean, rstd, av, bv, fv), n);
      }
    }
    if (!backward && s.epilogue) s.epilogue->range(*s.epilogue, chunk * step * s.inner, (to - chunk * step) * s.inner);
  };
  parallel_for((planes + step - 1) / step, planes * s.inner / 2, body);
}

void forward(const BatchNormArgs& s) {
  const Coefficients k = coefficients(s);
  const float n = (float)(s.outer * s.inner);
  sums<Sum::X>(s, s.mean, nullptr);
  for (int64_t c = 0; c < s.channels; ++c) k.mean[c] = s.mean[c] = s.mean[c] / n;
  sums<Sum::Squares>(s, s.var, nullptr);
  for (int64_t c = 0; c < s.channels; ++c) {
    s.var[c] = s.var[c] / n;
    k.rstd[c] = 1.0f / __builtin_sqrtf(s.var[c] + s.eps);
  }
  elements<false>(s, s.gamma, s.beta, nullptr);
}

void backward(const BatchNormArgs& s) {
  const Coefficients k = coefficients(s);
  const float n = (float)(s.outer * s.inner);
  for (int64_t c = 0; c < s.channels; ++c) {
    k.mean[c] = s.mean[c];
    k.rstd[c] = 1.0f / __builtin_sqrtf(s.var[c] + s.eps);
  }
  sums<Sum::Grads>(s, s.dgamma, s.dbeta);
  float* factor = s.workspace;  // the block sums are done with
  for (int64_t c = 0; c < s.channels; ++c) {
    k.a[c] = s.dbeta[c] / n;
    k.b[c] = s.dgamma[c] / n;
  }
  if (s.outer * s.inner == 0) return;  // nothing to write, and no block to hold the factors
  for (int64_t c = 0; c < s.channels; ++c) factor[c] = s.gamma[c] * k.rstd[c];
  elements<true>(s, k.a, k.b, factor);
}

}  // namespace

const BatchNormTable batch_norm_table = {forward, backward};

}  // namespace dlcore::DLCORE_ISA
