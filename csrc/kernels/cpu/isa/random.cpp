// Philox (base/philox.h) with a block of four words in each lane. The words of W blocks are then woven into memory
// order.
#include "kernels/cpu/random.h"

#include "base/parallel.h"
#include "kernels/box_muller.h"
#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int kTogether = 4;      // vectors of blocks at once
constexpr int64_t kChunk = 8192;  // elements; a multiple of those of a vector of blocks

DLCORE_INLINE VU splat(uint32_t x) { return x - VU{}; }

DLCORE_INLINE VU lanes() {
  VU lane;
  for (int i = 0; i < W; ++i) lane[i] = static_cast<uint32_t>(i);
  return lane;
}

// The words of G vectors of blocks, c1·2^32 + c0 in words[g][1] and [0].
template <int G>
DLCORE_INLINE void philox(const RandomArgs& a, VU (&words)[G][4]) {
  uint32_t k0 = static_cast<uint32_t>(a.seed), k1 = static_cast<uint32_t>(a.seed >> 32);
  const VU m0 = splat(0xD2511F53u), m1 = splat(0xCD9E8D57u);
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) words[g][2] = splat(a.site), words[g][3] = splat(a.step);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      VU(&c)[4] = words[g];
      VU low0, high0, low2, high2;
      multiply_wide(c[0], m0, low0, high0);
      multiply_wide(c[2], m1, low2, high2);
      c[0] = high2 ^ c[1] ^ k0;
      c[1] = low2;
      c[2] = high0 ^ c[3] ^ k1;
      c[3] = low0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

#ifdef DLCORE_WIDE
DLCORE_INLINE VF zip_low(VF a, VF b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
DLCORE_INLINE VF zip_high(VF a, VF b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#else
DLCORE_INLINE VF zip_low(VF a, VF b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
DLCORE_INLINE VF zip_high(VF a, VF b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#endif

// Word k of block b to element 4b + k.
DLCORE_INLINE void weave(const VF (&w)[4], VF (&out)[4]) {
  const VF a0 = zip_low(w[0], w[2]), a1 = zip_high(w[0], w[2]), b0 = zip_low(w[1], w[3]), b1 = zip_high(w[1], w[3]);
  out[0] = zip_low(a0, b0);
  out[1] = zip_high(a0, b0);
  out[2] = zip_low(a1, b1);
  out[3] = zip_high(a1, b1);
}

template <int G>
DLCORE_INLINE void uniforms(const RandomArgs& a, int64_t element, VF (&u)[G][4]) {
  VU words[G][4];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    const uint64_t block = static_cast<uint64_t>(element) / 4 + static_cast<uint64_t>(g * W);
    // A chunk starts at a multiple of W, so the lower half does not wrap within the vector.
    words[g][0] = static_cast<uint32_t>(block) + lanes();
    words[g][1] = splat(static_cast<uint32_t>(block >> 32));
  }
  philox(a, words);
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) u[g][k] = uniform_of_bits<VF>(words[g][k]);
  }
}

// Sources of numbers: kVectors of blocks at once, so that one's rounds, each of which waits for the one before, go
// beside another's. `finish` makes four vectors of numbers, in memory order, out of the words of each.
struct Uniform {
  static constexpr int kVectors = kTogether;
  static DLCORE_INLINE void finish(const RandomArgs& a, VF (&u)[4], VF (&out)[4]) {
#pragma GCC unroll 4
    for (VF& v : u) v = fma(constant<VF>(a.range), v, constant<VF>(a.low));
    weave(u, out);
  }
};
struct Normal {
  static constexpr int kVectors = 1;
  static DLCORE_INLINE void finish(const RandomArgs&, VF (&u)[4], VF (&out)[4]) {
    VF z[4];
    for (int k = 0; k < 4; k += 2) box_muller(u[k], u[k + 1], z[k], z[k + 1]);
    weave(z, out);
  }
};
// The uniform numbers; dropped below, with x at hand.
struct Plain {
  static constexpr int kVectors = kTogether;
  static DLCORE_INLINE void finish(const RandomArgs&, VF (&u)[4], VF (&out)[4]) { weave(u, out); }
};

template <class Source, bool drops>
void run(const RandomArgs& a) {
  constexpr int G = Source::kVectors;
  auto body = [&](int64_t chunk) {
    const int64_t end = (chunk + 1) * kChunk < a.n ? (chunk + 1) * kChunk : a.n;
    for (int64_t i = chunk * kChunk; i < end; i += 4 * G * W) {
      VF u[G][4];
      uniforms(a, i, u);
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        VF v[4];
        Source::finish(a, u[g], v);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const int64_t at = i + (4 * g + k) * W, left = end - at;
          if (left <= 0) break;
          const int n = left < W ? static_cast<int>(left) : W;
          if constexpr (drops) {
            const VF x = n == W ? load(a.x + at) : load_partial(a.x + at, n);
            v[k] = select(v[k] >= a.p, x * a.keep_scale, VF{});
          }
          n == W ? store(a.out + at, v[k]) : store_partial(a.out + at, v[k], n);
        }
      }
    }
  };
  parallel_for((a.n + kChunk - 1) / kChunk, a.n * 3, body);
}

// Channels-last images: a vector of channels draws the numbers of a pixel from as many blocks, which are those of the
// next three pixels, too, where rows of pixels start with a block.
template <int kPixels>
void drop_pixels(const RandomArgs& a, int64_t image, int64_t pixel) {
  const VU pixels = splat(static_cast<uint32_t>(a.pixels));
  for (int64_t c = 0; c < a.channels; c += W) {
    const auto first = static_cast<uint32_t>((image * a.channels + c) * a.pixels + pixel);
    const VU element = first + lanes() * pixels;
    VU words[1][4] = {{element >> 2, VU{}}};
    philox(a, words);
    VF u[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) u[k] = uniform_of_bits<VF>(words[0][k]);
    const VU word = element & 3u;
    if (kPixels == 1) u[0] = select(word < 2u, select(word == 0u, u[0], u[1]), select(word == 2u, u[2], u[3]));
    const int n = a.channels - c < W ? static_cast<int>(a.channels - c) : W;
#pragma GCC unroll 4
    for (int k = 0; k < kPixels; ++k) {
      const int64_t at = (image * a.pixels + pixel + k) * a.channels + c;
      const VF x = n == W ? load(a.x + at) : load_partial(a.x + at, n);
      const VF y = select(u[k] >= a.p, x * a.keep_scale, VF{});
      n == W ? store(a.out + at, y) : store_partial(a.out + at, y, n);
    }
  }
}

void drop_images(const RandomArgs& a) {
  if (a.n == 0) return;
  const int64_t step = a.pixels % 4 == 0 ? 4 : 1, total = a.n / a.channels / step;
  const int64_t size = kChunk / (a.channels * step) + 1;
  parallel_for((total + size - 1) / size, a.n * (step == 4 ? 3 : 8), [&](int64_t chunk) {
    const int64_t end = (chunk + 1) * size < total ? (chunk + 1) * size : total;
    for (int64_t i = chunk * size; i < end; ++i)
      (step == 4 ? drop_pixels<4> : drop_pixels<1>)(a, i * step / a.pixels, i * step % a.pixels);
  });
}

}  // namespace

const RandomTable random_table = {run<Uniform, false>, run<Normal, false>, run<Plain, true>, drop_images};

}  // namespace dlcore::DLCORE_ISA
