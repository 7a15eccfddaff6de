// Whether a kernel writes a result past the caches: it is large (base/cpu.h), none of the operands' memory, where
// nothing would be spared, and its rows are whole lines.
#pragma once
#include <cstdint>
#include <initializer_list>

#include "base/cpu.h"

namespace dlcore::cpu {

struct Past {
  bool large;

  Past(int64_t rows, int64_t width) : large(width % 16 == 0 && written_past_cache(rows * width * 4)) {}

  bool operator()(const void* out, std::initializer_list<const void*> operands) const {
    bool past = large && reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
    for (const void* operand : operands) past = past && operand != out;
    return past;
  }
};

}  // namespace dlcore::cpu
