#include "base/alloc.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "base/error.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace dlcore {

namespace {

std::atomic<int64_t> g_calls{0}, g_in_use{0};
constexpr size_t kMaxCached = size_t{1} << 30;

// Blocks come in size classes (powers of two in quarter steps), so that a freed block fits the next similar request.
size_t round_up(size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const size_t step = std::max(kAlignment, std::bit_ceil(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

// Large blocks lie on huge pages where the system gives them: kernels walk matrices by columns, where each step is a
// page of its own otherwise.
constexpr size_t kHugePage = size_t{1} << 21;

std::align_val_t alignment_of(size_t size) { return std::align_val_t(size >= kHugePage ? kHugePage : kAlignment); }

void* from_system(size_t size) {
  void* p = ::operator new(size, alignment_of(size), std::nothrow);
#ifdef MADV_HUGEPAGE
  if (p && size >= kHugePage) ::madvise(p, size, MADV_HUGEPAGE);  // advice: where it is refused, nothing is lost
#endif
  return p;
}

void to_system(void* p, size_t size) { ::operator delete(p, alignment_of(size)); }

struct Cache {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free;
  size_t bytes = 0;
};

Cache& cache() {
  static Cache* c = new Cache;  // outlives static destructors that free tensors
  return *c;
}

}  // namespace

void* allocate(size_t bytes) {
  g_calls.fetch_add(1, std::memory_order_relaxed);
  DLCORE_CHECK(bytes < (size_t{1} << 62), Memory, "cannot allocate ", bytes, " bytes");
  const size_t size = round_up(bytes);
  Cache& c = cache();
  {
    const std::lock_guard lock(c.mutex);
    auto it = c.free.find(size);
    if (it != c.free.end() && !it->second.empty()) {
      void* p = it->second.back();
      it->second.pop_back();
      c.bytes -= size;
      g_in_use.fetch_add(static_cast<int64_t>(size), std::memory_order_relaxed);
      return p;
    }
  }
  void* p = from_system(size);
  if (!p) {
    release_cache();
    p = from_system(size);
    DLCORE_CHECK(p, Memory, "out of memory: ", bytes, " bytes wanted, ", allocated_bytes(), " in use");
  }
  g_in_use.fetch_add(static_cast<int64_t>(size), std::memory_order_relaxed);
  return p;
}

void deallocate(void* p, size_t bytes) {
  if (!p) return;
  const size_t size = round_up(bytes);
  g_in_use.fetch_sub(static_cast<int64_t>(size), std::memory_order_relaxed);
  Cache& c = cache();
  {
    const std::lock_guard lock(c.mutex);
    if (c.bytes + size <= kMaxCached) {
      c.free[size].push_back(p);
      c.bytes += size;
      return;
    }
  }
  to_system(p, size);
}

void release_cache() {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  for (auto& [size, blocks] : c.free)
    for (void* p : blocks) to_system(p, size);
  c.free.clear();
  c.bytes = 0;
}

int64_t allocation_count() { return g_calls.load(std::memory_order_relaxed); }
int64_t allocated_bytes() { return g_in_use.load(std::memory_order_relaxed); }

}  // namespace dlcore
