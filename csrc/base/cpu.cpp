#include "base/cpu.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dlcore {

namespace {

struct Features {
  bool avx2 = false, avx512 = false, avx512_bf16 = false, amx_bf16 = false;
};

Features read_features() {
  Features f;
#if defined(__x86_64__)
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  const bool osxsave = c & bit_OSXSAVE, fma = c & bit_FMA, avx = c & bit_AVX;
  if (!osxsave || !avx) return f;
  // The operating system must save the wide registers on a task switch: bits 1-2 for ymm, 5-7 for zmm.
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  const bool ymm = (lo & 0x6) == 0x6, zmm = (lo & 0xe6) == 0xe6;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  const bool tiles = (lo & 0x60000) == 0x60000 && (d & (1u << 24)) && (d & (1u << 22));
  f.avx2 = ymm && fma && (b & bit_AVX2);
  f.avx512 = f.avx2 && zmm && (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512DQ) && (b & bit_AVX512VL);
  if (f.avx512 && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avx512_bf16 = a & (1u << 5);
  f.amx_bf16 = f.avx512_bf16 && tiles;
#endif
#ifdef DLCORE_EMULATE_AVX512
  f.avx512 = f.avx512_bf16 = f.avx2;
  f.amx_bf16 = false;
#endif
  return f;
}

// Bytes of the last level of cache that this processor can reach, 0 where it does not say.
int64_t read_last_cache() {
  int64_t bytes = 0;
#if defined(__x86_64__)
  unsigned a, b, c, d;
  // Intel's leaf and AMD's: type in bits 0-4 (0: no more, 2: instructions), level in 5-7; ways, lines, sets less one.
  for (const unsigned leaf : {4u, 0x8000001du}) {
    for (unsigned i = 0, level = 0; i < 16 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31) != 0; ++i) {
      if ((a & 31) == 2 || ((a >> 5) & 7) < level) continue;
      level = (a >> 5) & 7;
      bytes = int64_t{(b >> 22) + 1} * ((b >> 12 & 1023) + 1) * ((b & 4095) + 1) * (int64_t{c} + 1);
    }
    if (bytes > 0) break;
  }
#endif
  return bytes;
}

// Linux hands out the 8 KB of tile registers to processes that ask for them, and to all their threads.
bool ask_for_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

std::atomic<bool>& amx_slot() {
  static std::atomic<bool> allowed{true};
  return allowed;
}

const Features& features() {
  static const Features f = read_features();
  return f;
}

Isa initial_isa() {
  const Isa best = detected_isa();
  const char* wanted = std::getenv("DLCORE_MAX_ISA");
  if (!wanted || !*wanted) return best;
  const Isa limit = parse_isa(wanted);
  return limit < best ? limit : best;
}

std::atomic<Isa>& isa_slot() {
  static std::atomic<Isa> isa{initial_isa()};
  return isa;
}

std::atomic<int64_t>& last_cache_slot() {
  static std::atomic<int64_t> bytes{read_last_cache()};
  return bytes;
}

}  // namespace

Isa detected_isa() { return features().avx512 ? Isa::Avx512 : features().avx2 ? Isa::Avx2 : Isa::Ref; }
Isa current_isa() { return isa_slot().load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
  DLCORE_CHECK(isa <= detected_isa(), Value, "this machine cannot run ", name_of(isa), "; its best is ",
               name_of(detected_isa()));
  isa_slot().store(isa, std::memory_order_relaxed);
}

std::string_view name_of(Isa isa) { return isa == Isa::Avx512 ? "avx512" : isa == Isa::Avx2 ? "avx2" : "ref"; }

Isa parse_isa(std::string_view name) {
  for (Isa isa : {Isa::Ref, Isa::Avx2, Isa::Avx512})
    if (name_of(isa) == name) return isa;
  fail(ErrorKind::Value, "unknown instruction set '", name, "' (DLCORE_MAX_ISA): expected ref, avx2 or avx512");
}

bool has_avx512_bf16() { return features().avx512_bf16; }

bool has_amx_bf16() {
  static const bool has = features().amx_bf16 && ask_for_tiles();
  return has && amx_slot().load(std::memory_order_relaxed);
}

void allow_amx(bool allowed) { amx_slot().store(allowed, std::memory_order_relaxed); }

int64_t last_cache() { return last_cache_slot().load(std::memory_order_relaxed); }
void set_last_cache(int64_t bytes) { last_cache_slot().store(bytes, std::memory_order_relaxed); }
bool written_past_cache(int64_t bytes) {
  constexpr int64_t kMost = 32 << 20;
  return last_cache() > 0 && bytes >= std::min(last_cache(), kMost) / 2;
}

}  // namespace dlcore
