// What kernels derive from an input that never changes, such as packed weights: made once, when the first kernel that
// wants it is bound, and shared by all programs over the same constant (one for each batch size of a frozen model).
#pragma once
#include <functional>
#include <memory>
#include <string>

namespace dlcore {

using Prepared = std::shared_ptr<float>;  // aligned to 64

// The `floats` that fill(memory) writes, keyed by the constant's address and `form`, which names the derivation with
// everything it depends on. The constant must outlive the result: programs hold both.
Prepared prepare(const void* constant, const std::string& form, size_t floats, const std::function<void(float*)>& fill);

}  // namespace dlcore
