// bfloat16 packed as pairs along the reduction, [pair][row or column], an odd last one with a zero.
#include "kernels/cpu/isa/bf16_parts.h"

#ifdef DLCORE_WIDE
namespace dlcore::DLCORE_ISA {

void pack(const Source& s, int64_t lane, int64_t count, int64_t k0, int64_t k, int64_t width, int32_t* to) {
  int64_t p = 0;
  if (s.k_step == 1) {  // pairs stand side by side: a transposition of pairs
    for (; count > 0 && p + 2 * W <= k; p += 2 * W) {
      VF v[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) v[i] = i < count ? as_float(load_pairs(s.at(lane + i, k0 + p))) : VF{};
      transpose_registers(v);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) store(to + (p / 2 + i) * width, as_int(v[i]));
    }
  } else {
    const int n = static_cast<int>(count);
    for (; p + 2 <= k; p += 2)
      store(to + p / 2 * width,
            widen_shorts_partial(s.at(lane, k0 + p), n) | (widen_shorts_partial(s.at(lane, k0 + p + 1), n) << 16));
  }
  for (; p < k; p += 2) {
    int32_t pairs[W] = {};
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t low = *s.at(lane + i, k0 + p), high = p + 1 < k ? *s.at(lane + i, k0 + p + 1) : 0;
      pairs[i] = static_cast<int32_t>(low | high << 16);
    }
    store(to + p / 2 * width, load(pairs));
  }
}

namespace {

// A whole panel from rows that stand side by side in memory: each line of them is read once.
void pack_rows(const Source& s, int64_t lane, int64_t k0, int64_t k, int32_t* to) {
  typedef uint16_t Shorts __attribute__((vector_size(4 * W)));
  static_assert(kPanel == 2 * W && W == 16);
  int64_t p = 0;
  for (; p + 2 <= k; p += 2, to += kPanel) {
    const auto low = (Shorts)load_pairs(s.at(lane, k0 + p)), high = (Shorts)load_pairs(s.at(lane, k0 + p + 1));
    store(to, (VI)__builtin_shufflevector(low, high, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9,
                                          41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47));
    store(to + W, (VI)__builtin_shufflevector(low, high, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                              24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63));
  }
  for (int64_t half = 0; p < k && half < kPanel; half += W) pack(s, lane + half, W, k0 + p, k - p, kPanel, to + half);
}

}  // namespace

// Rows of B may be far apart: a stretch of each at a time.
void pack_group(const Source& b, int64_t n0, int64_t n, int64_t k0, int64_t k, int64_t pairs, int32_t* packed) {
  for (int64_t p = 0; p < k; p += 4 * W)
    for (int64_t j = 0; j < n; j += kPanel) {
      if (b.k_step != 1 && n - j >= kPanel) {
        pack_rows(b, n0 + j, k0 + p, min64(4 * W, k - p), packed + j * pairs + p / 2 * kPanel);
        continue;
      }
      for (int64_t half = 0; half < kPanel; half += W)
        pack(b, n0 + j + half, max64(0, min64(W, n - j - half)), k0 + p, min64(4 * W, k - p), kPanel,
             packed + j * pairs + p / 2 * kPanel + half);
    }
}

}  // namespace dlcore::DLCORE_ISA
#endif
