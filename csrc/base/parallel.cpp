#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dlcore {

namespace {

// Handing work to a spinning thread takes well under a microsecond, to a sleeping one a hundred or more: some 200
// microseconds of spinning outlast what runs on one thread between two pieces of work for all.
constexpr int kSpins = 12000;
// Below this (about 8 microseconds) a second thread cannot help.
constexpr int64_t kSmallWork = 25000;

// Chunks are dealt out in as many stretches as threads work, up to this many.
constexpr int kMaxStretches = 64;

thread_local bool t_inside = false;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits until `value` differs from `old`: briefly awake, then asleep.
template <class T>
void await_change(std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

class Pool {
 public:
  // False when another thread is using the pool: the caller then works alone.
  bool run(int64_t chunks, ChunkFn fn, void* context, int threads) {
    const std::unique_lock lock(busy_, std::try_to_lock);
    if (!lock) return false;
    const int helpers = static_cast<int>(std::min<int64_t>(threads - 1, chunks - 1));
    while (static_cast<int>(workers_.size()) < helpers) {
      const int index = static_cast<int>(workers_.size());
      workers_.emplace_back([this, index] { work(index); });
      workers_.back().detach();
    }
    fn_ = fn;
    context_ = context;
    failed_chunk_ = chunks;
    pending_.store(static_cast<uint32_t>(chunks), std::memory_order_relaxed);
    helpers_.store(helpers, std::memory_order_relaxed);
    const uint32_t job = job_.load(std::memory_order_relaxed) + 1;
    const int stretches = std::min(helpers + 1, kMaxStretches);
    stretches_.store(stretches, std::memory_order_relaxed);
    for (int i = 0; i < stretches; ++i) {
      Stretch& stretch = stretch_[i];
      stretch.end = chunks * (i + 1) / stretches;
      const int64_t size = stretch.end - chunks * i / stretches;
      stretch.cursor.store(uint64_t{job} << 32 | static_cast<uint32_t>(size), std::memory_order_release);
    }
    job_.store(job, std::memory_order_release);
    job_.notify_all();
    drain(0);
    for (uint32_t left; (left = pending_.load(std::memory_order_acquire)) != 0;) await_change(pending_, left);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    return true;
  }

  void lock() { busy_.lock(); }
  void unlock() { busy_.unlock(); }

 private:
  // The cursor holds the job's number and how many chunks of the stretch are not yet taken; whoever lowers it owns a
  // chunk, and the job cannot end, nor its fields change, before that chunk is done. A late thread sees another number
  // and takes nothing stale.
  struct alignas(64) Stretch {
    std::atomic<uint64_t> cursor{0};
    int64_t end = 0;
  };

  void work(int index) {
    t_inside = true;
    for (uint32_t seen = 0;;) {
      await_change(job_, seen);
      seen = job_.load(std::memory_order_acquire);
      if (index < helpers_.load(std::memory_order_relaxed)) drain(index + 1);
    }
  }

  // Each thread begins with the same stretch of the chunks every time, so that what it wrote for one operation is near
  // when it reads it for the next; then it helps with the others'.
  void drain(int first) {
    const int stretches = stretches_.load(std::memory_order_relaxed);
    for (int i = 0; i < stretches; ++i) drain(stretch_[(first + i) % stretches]);
  }

  void drain(Stretch& stretch) {
    uint64_t c = stretch.cursor.load(std::memory_order_acquire);
    while (const uint32_t left = static_cast<uint32_t>(c)) {
      if (!stretch.cursor.compare_exchange_weak(c, c - 1, std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      const int64_t chunk = stretch.end - left;
      try {
        fn_(context_, chunk);
      } catch (...) {
        const std::lock_guard guard(failure_mutex_);
        if (chunk < failed_chunk_) {  // the lowest chunk's error, whichever thread was first
          failed_chunk_ = chunk;
          failure_ = std::current_exception();
        }
      }
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_all();
      c = stretch.cursor.load(std::memory_order_acquire);
    }
  }

  std::mutex busy_;
  std::vector<std::thread> workers_;
  ChunkFn fn_ = nullptr;
  void* context_ = nullptr;
  Stretch stretch_[kMaxStretches];
  std::atomic<int> stretches_{1};
  std::atomic<uint32_t> job_{0}, pending_{0};
  std::atomic<int> helpers_{0};
  std::mutex failure_mutex_;
  int64_t failed_chunk_ = 0;
  std::exception_ptr failure_;
};

// Never destroyed: its detached threads outlive static destructors. A forked child has none of the threads, so it
// starts with a new pool.
std::atomic<Pool*> g_pool{nullptr};

Pool& pool() {
  if (Pool* p = g_pool.load(std::memory_order_acquire)) return *p;
  static std::mutex creating;
  const std::lock_guard guard(creating);
  if (!g_pool.load(std::memory_order_acquire)) {
    static std::once_flag once;
    std::call_once(once, [] {
      pthread_atfork(
          [] {
            if (Pool* p = g_pool.load()) p->lock();
          },
          [] {
            if (Pool* p = g_pool.load()) p->unlock();
          },
          [] { g_pool.store(new Pool); });
    });
    g_pool.store(new Pool, std::memory_order_release);
  }
  return *g_pool.load(std::memory_order_acquire);
}

// The processors' time that a cgroup's quota allows, rounded up; 0 for no limit.
int cgroup_limit() {
  std::string quota;
  double period = 0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> quota >> period && quota != "max" && period > 0)
    return std::max(1, static_cast<int>((std::atof(quota.c_str()) + period - 1) / period));
  double q = 0;
  std::ifstream v1("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1 >> q && v1_period >> period && q > 0 && period > 0)
    return std::max(1, static_cast<int>((q + period - 1) / period));
  return 0;
}

std::atomic<int>& thread_count() {
  static std::atomic<int> n{default_num_threads()};
  return n;
}

}  // namespace

int default_num_threads() {
  if (const char* wanted = std::getenv("DLCORE_NUM_THREADS"); wanted && *wanted) {
    char* end = nullptr;
    const long n = std::strtol(wanted, &end, 10);
    DLCORE_CHECK(*end == 0 && n >= 1 && n <= 1024, Value, "DLCORE_NUM_THREADS should be a number from 1 to 1024, got '",
                 wanted, "'");
    return static_cast<int>(n);
  }
  int n = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = std::max(1, CPU_COUNT(&set));
  if (const int limit = cgroup_limit()) n = std::min(n, limit);
  return n;
}

int num_threads() { return thread_count().load(std::memory_order_relaxed); }

void set_num_threads(int n) {
  DLCORE_CHECK(n >= 1 && n <= 1024, Value, "the number of threads should be from 1 to 1024, got ", n);
  thread_count().store(n, std::memory_order_relaxed);
}

void parallel_for(int64_t chunks, int64_t cycles, ChunkFn fn, void* context) {
  const int threads = num_threads();
  if (chunks > 1 && threads > 1 && cycles > kSmallWork && !t_inside && chunks < (int64_t{1} << 31)) {
    t_inside = true;
    struct Leave {
      ~Leave() { t_inside = false; }
    } leave;
    if (pool().run(chunks, fn, context, threads)) return;
  }
  for (int64_t i = 0; i < chunks; ++i) fn(context, i);
}

}  // namespace dlcore
