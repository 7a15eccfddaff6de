// A backend in a library of its own: it serves "relu" in f32 as "toy", asked before ref and cpu. The tests build it
// with
//   c++ -std=c++20 -shared -fPIC -I csrc tests/backend/toy_backend.cpp -o toy_backend.so
// and load it to show that the registry is the only way in: it links against nothing of the core.
#include "kernels/registry.h"

namespace {

dlcore::BoundKernel bind_relu(const dlcore::KernelSpec& spec) {
  if (spec.inputs.size() != 1 || spec.outputs.size() != 1 || spec.inputs[0].dtype != dlcore::DType::F32 ||
      spec.outputs[0] != spec.inputs[0])
    return {};  // not ours: the next backend is asked
  int64_t n = 1;
  for (const int64_t size : spec.inputs[0].shape) n *= size;
  dlcore::BoundKernel kernel;
  kernel.run = [n](const dlcore::RunArgs& args) {
    const float* x = static_cast<const float*>(args.in[0]);
    float* y = static_cast<float*>(args.out[0]);
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] > 0 || x[i] != x[i] ? x[i] : 0.0f;  // NaN stays NaN
  };
  return kernel;
}

}  // namespace

// Nothing may throw through a C entry point: 0 means that the kernels are registered.
extern "C" __attribute__((visibility("default"))) int dlcore_register_backend(dlcore::Registry* registry) {
  try {
    registry->add("toy", 20, "relu", bind_relu);
    return 0;
  } catch (...) {
    return 1;
  }
}
