// Copies and fills of rows of bytes, inlined into the kernels of each instruction set.
#pragma once
#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {

typedef uint64_t Word __attribute__((aligned(1), may_alias));
typedef uint32_t Half __attribute__((aligned(1), may_alias));
typedef uint16_t Quarter __attribute__((aligned(1), may_alias));
typedef char Bytes __attribute__((vector_size(4 * W)));
typedef char BytesU __attribute__((vector_size(4 * W), aligned(1), may_alias));
typedef char Bytes16 __attribute__((vector_size(16)));
typedef char Bytes16U __attribute__((vector_size(16), aligned(1), may_alias));
inline constexpr int64_t kVectorBytes = 4 * W;

// Ends overlap instead of looping over single bytes. Long rows go to the C library, which knows the caches.
DLCORE_INLINE void copy_bytes(char* dst, const char* src, int64_t n) {
  if (n >= 4096) {
    __builtin_memcpy(dst, src, static_cast<size_t>(n));
  } else if (n >= kVectorBytes) {
    const Bytes last = *reinterpret_cast<const BytesU*>(src + n - kVectorBytes);
    for (int64_t i = 0; i < n - kVectorBytes; i += kVectorBytes)
      *reinterpret_cast<BytesU*>(dst + i) = *reinterpret_cast<const BytesU*>(src + i);
    *reinterpret_cast<BytesU*>(dst + n - kVectorBytes) = last;
  } else if (n >= 16) {
    for (int64_t i = 0; i < n - 16; i += 16)
      *reinterpret_cast<Bytes16U*>(dst + i) = *reinterpret_cast<const Bytes16U*>(src + i);
    *reinterpret_cast<Bytes16U*>(dst + n - 16) = *reinterpret_cast<const Bytes16U*>(src + n - 16);
  } else if (n >= 8) {
    const uint64_t a = *reinterpret_cast<const Word*>(src), b = *reinterpret_cast<const Word*>(src + n - 8);
    *reinterpret_cast<Word*>(dst) = a;
    *reinterpret_cast<Word*>(dst + n - 8) = b;
  } else if (n >= 4) {
    const uint32_t a = *reinterpret_cast<const Half*>(src), b = *reinterpret_cast<const Half*>(src + n - 4);
    *reinterpret_cast<Half*>(dst) = a;
    *reinterpret_cast<Half*>(dst + n - 4) = b;
  } else {
    for (int64_t i = 0; i < n; ++i) dst[i] = src[i];
  }
}

// n is a multiple of the element whose repeated bytes are `pattern`, so every store below is in step with it.
DLCORE_INLINE void fill_bytes(char* dst, uint64_t pattern, int64_t n) {
  if (n >= kVectorBytes) {
    typedef uint64_t Words __attribute__((vector_size(4 * W)));
    const Words words = pattern - Words{};
    const Bytes v = reinterpret_cast<Bytes>(words);
    for (int64_t i = 0; i < n - kVectorBytes; i += kVectorBytes) *reinterpret_cast<BytesU*>(dst + i) = v;
    *reinterpret_cast<BytesU*>(dst + n - kVectorBytes) = v;
    return;
  }
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) *reinterpret_cast<Word*>(dst + i) = pattern;
  for (; i < n; ++i) dst[i] = static_cast<char>(pattern >> (8 * (i & 7)));
}

}  // namespace dlcore::DLCORE_ISA
