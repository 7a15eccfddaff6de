// Philox-4x32-10, counter-based random numbers: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
// The same (key, counter) gives the same four words anywhere, so nothing has to be stored or kept in step.
#pragma once
#include <array>
#include <cstdint>

namespace dlcore {

using PhiloxBlock = std::array<uint32_t, 4>;

// seed keys the stream; block, site and step number the draw: word i of a tensor is word i % 4 of block i / 4.
constexpr PhiloxBlock philox(uint64_t seed, uint64_t block, uint32_t site, uint32_t step) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = site, c3 = step;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

// [0, 1) in steps of 2^-24, exactly representable in float.
constexpr float uniform_from_bits(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

}  // namespace dlcore
