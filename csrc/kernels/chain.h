// How long a matrix product goes on adding in one chain: rounding errors grow with its length.
#pragma once
#include <cstdint>

namespace dlcore {

inline constexpr int64_t kLongestChain = 256;

// Steps of k after which the chains of a product begin anew: nearly equal pieces, in multiples of 16. By k alone.
constexpr int64_t chain_length(int64_t k) {
  const int64_t pieces = (k + kLongestChain - 1) / kLongestChain;
  return pieces <= 1 ? kLongestChain : ((k + pieces - 1) / pieces + 15) / 16 * 16;
}

}  // namespace dlcore
