// Aligned memory with a cache of freed blocks: a fresh large buffer costs more in page faults than a kernel takes.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dlcore {

inline constexpr size_t kAlignment = 64;

void* allocate(size_t bytes);            // aligned to kAlignment; throws Error(Memory); never nullptr, also for 0
void deallocate(void* p, size_t bytes);  // with the size it was allocated with
void release_cache();                    // gives cached blocks back to the system
int64_t allocation_count();              // calls of allocate so far (tests that a steady state allocates nothing)
int64_t allocated_bytes();               // in use now, the cache not counted

}  // namespace dlcore
