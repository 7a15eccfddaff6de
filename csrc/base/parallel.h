// The thread pool. Work is cut into chunks by its shape (never by the number of threads) and handed out dynamically, so
// results do not depend on who runs what, and a busy core does not hold the rest up.
#pragma once
#include <cstdint>
#include <type_traits>

namespace dlcore {

using ChunkFn = void (*)(void* context, int64_t chunk);

// Runs fn(context, 0 … chunks - 1), each exactly once, and returns when all are done. `cycles` is a rough estimate of
// the whole work; small work, nested calls and calls while another thread uses the pool run on the caller alone.
// An exception thrown by a chunk is rethrown here, after the others have ended.
void parallel_for(int64_t chunks, int64_t cycles, ChunkFn fn, void* context);

template <class F>
void parallel_for(int64_t chunks, int64_t cycles, F&& body) {
  using Body = std::remove_reference_t<F>;
  parallel_for(
      chunks, cycles, [](void* context, int64_t chunk) { (*static_cast<Body*>(context))(chunk); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

int num_threads();
void set_num_threads(int n);  // n >= 1; throws Error(Value)
int default_num_threads();    // DLCORE_NUM_THREADS, else what affinity and cgroup quota allow

}  // namespace dlcore
