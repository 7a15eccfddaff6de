// Binds convolutions that the graph wants done by Winograd's algorithm to the vectorised kernels.
#include "base/cpu.h"
#include "kernels/cpu/bind_epilogue.h"
#include "kernels/prepared.h"
#include "kernels/winograd_spec.h"

namespace dlcore {

#if defined(__x86_64__)
BoundKernel cpu::bind_winograd(const KernelSpec& spec, const ConvSpec& conv, std::shared_ptr<const TilePlan> epilogue) {
  if (conv.nchw || current_isa() == Isa::Ref) return {};
  const bool of_input = is_of_input(spec);
  const WinogradShape s = winograd_shape(spec, conv.shape);
  const WinogradTable& table = (current_isa() == Isa::Avx512 ? avx512::winograd_tables : avx2::winograd_tables)[s.form];
  BoundKernel bound;
  if (is_of_weight(spec)) {
    bound.workspace = table.workspace_weight(s);
    bound.run = [s, &table](const RunArgs& r) {
      table.run_weight(s, static_cast<const float*>(r.in[0]), static_cast<const float*>(r.in[1]),
                       static_cast<float*>(r.out[0]), r.workspace);
    };
  } else {
    Prepared ready;
    if (const void* w = spec.constant(1)) {
      const std::string form = "winograd" + to_string(Shape{s.form, static_cast<int64_t>(current_isa()), of_input, s.co,
                                                            s.ci, s.groups, s.kd, s.kernel_h, s.kernel_w});
      ready = prepare(w, form, table.transformed_floats(s),
                      [&](float* to) { table.transform(s, static_cast<const float*>(w), of_input, to); });
    }
    const size_t own = (table.workspace(s, ready != nullptr) + 63) / 64 * 64;
    bound.workspace = own + (epilogue ? EpilogueRun::kWorkspace : 0);
    bound.run = [s, of_input, epilogue, own, ready, &table](const RunArgs& r) {
      const EpilogueRun then(epilogue.get(), tile_kernels(), r, static_cast<char*>(r.workspace) + own);
      table.run(s, static_cast<const float*>(r.in[0]), static_cast<const float*>(r.in[1]), of_input, ready.get(),
                static_cast<float*>(r.out[0]), r.workspace, then.get());
    };
  }
  return bound;
}
#else
BoundKernel cpu::bind_winograd(const KernelSpec&, const ConvSpec&, std::shared_ptr<const TilePlan>) { return {}; }
#endif

}  // namespace dlcore
