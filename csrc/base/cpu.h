// Which instruction set the kernels use: what processor and operating system allow (cpuid and xgetbv), lowered by
// DLCORE_MAX_ISA = ref | avx2 | avx512 or by set_isa.
#pragma once
#include <cstdint>
#include <string_view>

namespace dlcore {

enum class Isa { Ref, Avx2, Avx512 };

Isa detected_isa();     // the best this machine can run
Isa current_isa();      // the one kernels bound from now on will use
void set_isa(Isa isa);  // throws Error(Value) when the machine cannot run it
std::string_view name_of(Isa isa);
Isa parse_isa(std::string_view name);
bool has_avx512_bf16();
// Whether bfloat16 is multiplied by tiles (Intel's AMX). The operating system is asked for their registers on the first
// call, on which it may insist.
bool has_amx_bf16();
void allow_amx(bool allowed);  // for tests: dot products of pairs instead

int64_t last_cache();                // bytes of the last level of cache, 0 where the processor does not say
void set_last_cache(int64_t bytes);  // for tests
// Whether a result of so many bytes is written past the caches: where the last of them holds no more than twice as
// much, what is written first is gone before anyone reads it, and each line need not be fetched to be overwritten. Of a
// larger last cache 32 MB count: dozens of cores share it, and others' programs on a rented machine.
bool written_past_cache(int64_t bytes);

}  // namespace dlcore
