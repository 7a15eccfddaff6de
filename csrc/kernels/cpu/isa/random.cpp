// Philox-4x32-10 (base/philox.h), W blocks at a time.
#include "kernels/cpu/random.h"

#include "base/parallel.h"
#include "kernels/math.h"

namespace dlcore::DLCORE_ISA {
namespace {

struct Words {
  VU w[4];
};

// High and low halves of the products of each lane by m.
DLCORE_INLINE void multiply(VU x, uint32_t m, VU& high, VU& low) {
  const VUL even = multiply_even(x, m), odd = multiply_even((VU)((VUL)x >> 32), m);
  constexpr uint64_t kHigh = 0xffffffff00000000ull;
  low = (VU)((even & ~kHigh) | (odd << 32));
  high = (VU)((even >> 32) | (odd & kHigh));
}

// Blocks first … first + W - 1.
DLCORE_INLINE Words philox_blocks(const RandomArgs& a, int64_t first) {
  VU c0, c1, c2 = a.site - VU{}, c3 = a.step - VU{};
  for (int i = 0; i < W; ++i) {
    const uint64_t block = static_cast<uint64_t>(first + i);
    c0[i] = static_cast<uint32_t>(block);
    c1[i] = static_cast<uint32_t>(block >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(a.seed), k1 = static_cast<uint32_t>(a.seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    VU high0, low0, high1, low1;
    multiply(c0, 0xD2511F53u, high0, low0);
    multiply(c2, 0xCD9E8D57u, high1, low1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

DLCORE_INLINE VF uniform(VU bits) { return to_float((VI)(bits >> 8)) * 0x1p-24f; }

// The values of W blocks in the order of their elements, word by word, from one vector a word.
DLCORE_INLINE void interleave(const VF* words, float* out) {
  for (int w = 0; w < 4; ++w)
    for (int i = 0; i < W; ++i) out[4 * i + w] = words[w][i];
}

constexpr int64_t kGroup = 4 * W;        // elements that W blocks give
constexpr int64_t kChunk = 64 * 4 * 16;  // elements of a chunk: whole groups at each width

// Calls body(i, values, count) for each group of elements, chunks in parallel.
template <class F, class G>
void for_each_group(const RandomArgs& args, int64_t cost, G values, F body) {
  const RandomArgs a = args;
  parallel_for((a.n + kChunk - 1) / kChunk, a.n * cost, [&](int64_t chunk) {
    const int64_t end = (chunk + 1) * kChunk < a.n ? (chunk + 1) * kChunk : a.n;
    for (int64_t i = chunk * kChunk; i < end; i += kGroup) {
      VF words[4];
      values(philox_blocks(a, i / 4), words);
      float buffer[kGroup];
      interleave(words, buffer);
      body(i, buffer, end - i < kGroup ? end - i : kGroup);
    }
  });
}

struct Uniforms {
  DLCORE_INLINE void operator()(const Words& from, VF* to) const {
    for (int w = 0; w < 4; ++w) to[w] = uniform(from.w[w]);
  }
};

// Box and Muller, "A note on the generation of random normal deviates" (1958).
struct Normals {
  DLCORE_INLINE void operator()(const Words& from, VF* to) const {
    for (int w = 0; w < 4; w += 2) {
      const VF radius = sqrt(-2.0f * log(1.0f - uniform(from.w[w])));
      const VF angle = 6.28318530717958648f * uniform(from.w[w + 1]);
      to[w] = radius * cos(angle);
      to[w + 1] = radius * sin(angle);
    }
  }
};

template <class F>
DLCORE_INLINE void for_each_vector(int64_t count, F body) {
  for (int64_t j = 0; j < count; j += W) body(j, count - j < W ? static_cast<int>(count - j) : W);
}

void fill_uniform(const RandomArgs& args) {
  for_each_group(args, 4, Uniforms(), [&](int64_t i, const float* u, int64_t count) {
    for_each_vector(count, [&](int64_t j, int lanes) {
      store_partial(args.out + i + j, fma(load(u + j), splat(args.b), splat(args.a)), lanes);
    });
  });
}

void fill_normal(const RandomArgs& args) {
  for_each_group(args, 20, Normals(), [&](int64_t i, const float* z, int64_t count) {
    for_each_vector(count, [&](int64_t j, int lanes) { store_partial(args.out + i + j, load(z + j), lanes); });
  });
}

void dropout(const RandomArgs& args) {
  for_each_group(args, 5, Uniforms(), [&](int64_t i, const float* u, int64_t count) {
    for_each_vector(count, [&](int64_t j, int lanes) {
      const VF x = load_partial(args.x + i + j, lanes);
      store_partial(args.out + i + j, select(load(u + j) >= splat(args.a), x * args.b, VF{}), lanes);
    });
  });
}

}  // namespace

const RandomTable random_table = {fill_uniform, fill_normal, dropout};

}  // namespace dlcore::DLCORE_ISA
