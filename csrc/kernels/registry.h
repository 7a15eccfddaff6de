// The one way to a kernel. A backend adds, for each op it knows, a function that binds a call (types and attributes,
// known once per plan) to code (pointers, known at each run). A loaded library fills the same registry: see
// docs/adding-an-op.md.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/attrs.h"
#include "base/shape.h"

namespace dlcore {

struct KernelSpec {
  std::string op;
  std::vector<TensorType> inputs;
  std::vector<TensorType> outputs;
  Attrs attrs;
  // Data of the inputs that never change while the kernel lives (a frozen program's weights), nullptr for others; may
  // be empty. What a kernel derives from them once, it keeps by prepared.h.
  std::vector<const void*> constants = {};
  const void* constant(size_t input) const { return input < constants.size() ? constants[input] : nullptr; }
};

struct RunArgs {
  const void* const* in;  // one pointer an input, at least aligned to its element
  void* const* out;       // one pointer an output; may equal an input's where the op's in_place says so
  void* workspace;        // BoundKernel::workspace bytes, aligned to 64, contents undefined
};

struct BoundKernel {
  std::function<void(const RunArgs&)> run;
  size_t workspace = 0;
  std::string_view backend = {};  // filled in by the registry
  explicit operator bool() const { return static_cast<bool>(run); }
};

// Returns an empty BoundKernel for a call it does not serve (a dtype, a layout): the next backend is asked.
using BindFn = BoundKernel (*)(const KernelSpec& spec);

class Registry {
 public:
  virtual ~Registry() = default;
  // Backends are asked in descending priority: ref 0, cpu 10, loaded libraries what they like (20 by custom).
  virtual void add(std::string_view backend, int priority, std::string_view op, BindFn bind) = 0;
  // `only` non-empty: that backend alone. Throws Error(Value) when no backend serves the call.
  virtual BoundKernel bind(const KernelSpec& spec, std::string_view only = {}) const = 0;
  virtual std::vector<std::string> backends(std::string_view op) const = 0;
};

Registry& registry();  // ref and cpu are in it from the start

// A loadable backend is a shared library with this entry point: extern "C" int
// dlcore_register_backend(dlcore::Registry*).
inline constexpr const char* kBackendEntry = "dlcore_register_backend";

}  // namespace dlcore
