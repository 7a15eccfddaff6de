#include "kernels/prepared.h"

#include <map>
#include <mutex>

#include "base/alloc.h"

namespace dlcore {

Prepared prepare(const void* constant, const std::string& form, size_t floats,
                 const std::function<void(float*)>& fill) {
  static std::mutex mutex;
  static auto& known = *new std::map<std::pair<const void*, std::string>, std::weak_ptr<float>>;
  const auto key = std::pair(constant, form);
  const std::lock_guard lock(mutex);
  if (const auto it = known.find(key); it != known.end())
    if (Prepared found = it->second.lock()) return found;
  std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  const size_t bytes = floats * sizeof(float);
  Prepared made(static_cast<float*>(allocate(bytes)), [bytes](float* p) { deallocate(p, bytes); });
  fill(made.get());
  known[key] = made;
  return made;
}

}  // namespace dlcore
