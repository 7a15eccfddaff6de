// Batch normalisation of outer x channels x inner. Each channel's sums are chains in blocks of 512 elements, so vectors
// run across 16 channels: straight from memory where channels are last (inner = 1), through transposed 16 x 16 tiles
// where not. A block's squares are of differences from its own mean, while it is in the cache: so x is read once.
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
  float* p = s.workspace + kSumsABlock * blocks_of(s.outer * s.inner) * s.channels;
  return {p, p + s.channels, p + 2 * s.channels, p + 3 * s.channels};
}

enum class Sums {
  Statistics,  // of x, of (x - mean of the block)², and of x - mean of the block, which rounding keeps from 0
  Gradients,   // of dy·h, and of dy
};

// The sums of a block of L times n channels from c on (n = 16 or, with L = 1, less), over `count` elements: x(e, l) and
// dy(e, l) are element e of channels c + 16 l … To out[kind of sum][channel].
template <Sums kind, int L, class X, class Dy>
DLCORE_INLINE void block_sums(const BatchNormArgs& s, int64_t c, int n, int64_t count, X x, Dy dy, float* out) {
  Lanes p[L], q[L], r[L], mean[L], rstd[L];
#pragma GCC unroll 4
  for (int l = 0; l < L; ++l) p[l] = q[l] = r[l] = zero_lanes();
  if constexpr (kind == Sums::Statistics) {
    for (int64_t e = 0; e < count; ++e) {
#pragma GCC unroll 4
      for (int l = 0; l < L; ++l) p[l] = p[l] + x(e, l);
    }
#pragma GCC unroll 4
    for (int l = 0; l < L; ++l) DLCORE_EACH_PART mean[l].v[part] = p[l].v[part] / (float)count;
    for (int64_t e = 0; e < count; ++e) {
#pragma GCC unroll 4
      for (int l = 0; l < L; ++l) {
        const Lanes d = x(e, l) - mean[l];
        q[l] = fma(d, d, q[l]);
        r[l] = r[l] + d;
      }
    }
  } else {
    const Coefficients k = coefficients(s);
#pragma GCC unroll 4
    for (int l = 0; l < L; ++l) {
      mean[l] = load16(k.mean + c + l * kLanes, n);
      rstd[l] = load16(k.rstd + c + l * kLanes, n);
    }
    for (int64_t e = 0; e < count; ++e) {
#pragma GCC unroll 4
      for (int l = 0; l < L; ++l) {
        const Lanes d = dy(e, l);
        p[l] = fma(d, (x(e, l) - mean[l]) * rstd[l], p[l]);
        q[l] = q[l] + d;
      }
    }
  }
#pragma GCC unroll 4
  for (int l = 0; l < L; ++l) {
    float* at = out + c + l * kLanes;
    store16(at, p[l], n);
    store16(at + s.channels, q[l], n);
    if (kind == Sums::Statistics) store16(at + 2 * s.channels, r[l], n);
  }
}

// f<L, Partial>(c, n) for 16 L channels from c on, up to `end`, or, Partial, for n fewer than 16.
template <int Many, class F>
DLCORE_INLINE void strips(int64_t c, int64_t end, F f) {
  for (; Many > 1 && c + Many * kLanes <= end; c += Many * kLanes) f.template operator()<Many, false>(c, kLanes);
  for (; c + kLanes <= end; c += kLanes) f.template operator()<1, false>(c, kLanes);
  if (c < end) f.template operator()<1, true>(c, (int)(end - c));
}

// Channels last: elements [from, to) of channels [c, c_end).
template <Sums kind>
void last_block(const BatchNormArgs& s, int64_t from, int64_t to, int64_t c, int64_t c_end, float* out) {
  strips<kParts == 1 ? 4 : 2>(c, c_end, [&]<int L, bool Partial>(int64_t c, int n) DLCORE_LAMBDA {
    const int64_t row = s.channels, first = from * row + c;
    const auto of = [=](const float* data) DLCORE_LAMBDA {
      return [=](int64_t e, int l) DLCORE_LAMBDA {
        const float* at = data + first + e * row + l * kLanes;
        return Partial ? load16(at, n) : load16(at);
      };
    };
    block_sums<kind, L>(s, c, n, to - from, of(s.x), of(kind == Sums::Gradients ? s.dy : s.x), out);
  });
}

// Channels first: elements [from, to) of channels [c, c + n), n <= 16.
template <Sums kind>
void first_block(const BatchNormArgs& s, int64_t from, int64_t to, int64_t c, int n, float* out) {
  constexpr bool kGradients = kind == Sums::Gradients;
  float x[kBlockRows * kLanes], dy[kGradients ? kBlockRows * kLanes : 1];
  for (int64_t e = from; e < to;) {
    const int64_t o = e / s.inner, i = e % s.inner, run = smaller(s.inner - i, to - e);
    const int64_t at = (o * s.channels + c) * s.inner + i, done = (e - from) * kLanes;
    pack16(s.x + at, s.inner, n, run, x + done);
    if (kGradients) pack16(s.dy + at, s.inner, n, run, dy + done);
    e += run;
  }
  const auto tile = [](const float* from) DLCORE_LAMBDA {
    return [=](int64_t e, int) DLCORE_LAMBDA { return load16(from + e * kLanes); };
  };
  block_sums<kind, 1>(s, c, n, to - from, tile(x), tile(dy), out);
}

// The sums of every block, in the workspace.
struct BlockSums {
  const BatchNormArgs& s;
  int64_t n = s.outer * s.inner, count = blocks_of(n);
  float* of(int64_t block) const { return s.workspace + kSumsABlock * block * s.channels; }
  // What get(block, its sums, channel) says, added in ascending order of the blocks.
  template <class F>
  void add(float* to, F get) const {
    for (int64_t c = 0; c < s.channels; ++c) to[c] = count > 0 ? get(0, of(0), c) : 0.0f;
    for (int64_t block = 1; block < count; ++block)
      for (int64_t c = 0; c < s.channels; ++c) to[c] += get(block, of(block), c);
  }
  void add(float* to, int kind) const {
    add(to, [&](int64_t, const float* sums, int64_t c) { return sums[kind * s.channels + c]; });
  }
};
template <Sums kind>
BlockSums sums(const BatchNormArgs& s) {
  const BlockSums sums{s};
  const int64_t strip = s.inner == 1 ? 64 : kLanes, strips = (s.channels + strip - 1) / strip;
  auto body = [&](int64_t chunk) {
    const int64_t block = chunk / strips, c = chunk % strips * strip, c_end = smaller(c + strip, s.channels);
    const int64_t from = block * kBlockRows, to = smaller(from + kBlockRows, sums.n);
    if (s.inner == 1)
      last_block<kind>(s, from, to, c, c_end, sums.of(block));
    else
      first_block<kind>(s, from, to, c, (int)(c_end - c), sums.of(block));
  };
  parallel_for(sums.count * strips, sums.n * s.channels / 2, body);
  return sums;
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

// Channels last: channels from c on of rows [from, to), their coefficients in registers.
template <bool backward, int L, bool Partial>
DLCORE_INLINE void last_elements(const BatchNormArgs& s, const float* a, const float* b, const float* factor,
                                 int64_t from, int64_t to, int64_t c, int n) {
  const Coefficients k = coefficients(s);
  const auto get = [n](const float* p) DLCORE_LAMBDA { return Partial ? load16(p, n) : load16(p); };
  Lanes mean[L], rstd[L], av[L], bv[L], fv[L];
#pragma GCC unroll 4
  for (int l = 0; l < L; ++l) {
    const int64_t at = c + l * kLanes;
    mean[l] = get(k.mean + at), rstd[l] = get(k.rstd + at), av[l] = get(a + at), bv[l] = get(b + at);
    fv[l] = backward ? get(factor + at) : av[l];
  }
  float* out = backward ? s.dx : s.y;
  for (int64_t row = from; row < to; ++row) {
#pragma GCC unroll 4
    for (int l = 0; l < L; ++l) {
      const int64_t at = row * s.channels + c + l * kLanes;
      const Lanes x = get(s.x + at), dy = backward ? get(s.dy + at) : x;
      const Lanes y = apply<backward>(x, dy, mean[l], rstd[l], av[l], bv[l], fv[l]);
      if (Partial)
        store16(out + at, y, n);
      else
        store16(out + at, y);
    }
  }
}

// The element-wise pass; `factor` is gamma rstd (backward).
template <bool backward>
void elements(const BatchNormArgs& s, const float* a, const float* b, const float* factor) {
  const Coefficients k = coefficients(s);
  float* out = backward ? s.dx : s.y;
  if (s.inner == 1) {
    // A row's coefficients serve several rows where these follow one another; wider rows, which come from memory sooner
    // in one sweep, load them anew.
    const bool narrow = s.channels <= 64;
    const int64_t step = kChunkElements / (s.channels + 1) + 1, rows = !narrow ? 1 : kParts == 1 ? 8 : 4;
    auto body = [&](int64_t chunk) {
      const int64_t end = smaller((chunk + 1) * step, s.outer);
      for (int64_t from = chunk * step; from < end; from += rows) {
        const auto one = [&, to = smaller(from + rows, end)]<int L, bool Partial>(int64_t c, int n)
                             DLCORE_LAMBDA { last_elements<backward, L, Partial>(s, a, b, factor, from, to, c, n); };
        narrow ? strips<kParts == 1 ? 4 : 1>(0, s.channels, one) : strips<1>(0, s.channels, one);
      }
      if (!backward && s.epilogue)
        s.epilogue->range(*s.epilogue, chunk * step * s.channels, (end - chunk * step) * s.channels);
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
  const BlockSums blocks = sums<Sums::Statistics>(s);
  const float n = (float)blocks.n;
  blocks.add(s.mean, 0);
  for (int64_t c = 0; c < s.channels; ++c) k.mean[c] = s.mean[c] = s.mean[c] / n;
  // Squares of x - mean from those of x - center: (d + e)² = d² + 2 e d + e².
  blocks.add(s.var, [&](int64_t block, const float* sums, int64_t c) {
    const float count = (float)smaller(kBlockRows, blocks.n - block * kBlockRows), e = sums[c] / count - s.mean[c];
    return __builtin_fmaf(count * e, e, __builtin_fmaf(2 * e, sums[2 * s.channels + c], sums[s.channels + c]));
  });
  for (int64_t c = 0; c < s.channels; ++c) {
    s.var[c] = s.var[c] < 0 ? 0 : s.var[c] / n;  // where rounding is all there is
    k.rstd[c] = 1.0f / __builtin_sqrtf(s.var[c] + s.eps);
  }
  elements<false>(s, s.gamma, s.beta, nullptr);
}

void backward(const BatchNormArgs& s) {
  const Coefficients k = coefficients(s);
  for (int64_t c = 0; c < s.channels; ++c) {
    k.mean[c] = s.mean[c];
    k.rstd[c] = 1.0f / __builtin_sqrtf(s.var[c] + s.eps);
  }
  const BlockSums blocks = sums<Sums::Gradients>(s);
  const float n = (float)blocks.n;
  blocks.add(s.dgamma, 0);
  blocks.add(s.dbeta, 1);
  float* factor = s.workspace;  // the block sums are done with
  for (int64_t c = 0; c < s.channels; ++c) {
    k.a[c] = s.dbeta[c] / n;
    k.b[c] = s.dgamma[c] / n;
  }
  if (blocks.n == 0) return;  // nothing to write, and no block to hold the factors
  for (int64_t c = 0; c < s.channels; ++c) factor[c] = s.gamma[c] * k.rstd[c];
  elements<true>(s, k.a, k.b, factor);
}

}  // namespace

const BatchNormTable batch_norm_table = {forward, backward};

}  // namespace dlcore::DLCORE_ISA
