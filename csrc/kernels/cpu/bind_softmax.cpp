#include "base/cpu.h"
#include "base/error.h"
#include "kernels/registry.h"

#if defined(__x86_64__)
#include "kernels/cpu/past.h"
#include "kernels/cpu/softmax.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

bool serves(const KernelSpec& spec) { return current_isa() != Isa::Ref && spec.inputs[0].dtype == DType::F32; }
const SoftmaxTable& table() { return current_isa() == Isa::Avx512 ? avx512::softmax_table : avx2::softmax_table; }

const float* input(const RunArgs& args, int i) { return static_cast<const float*>(args.in[i]); }
float* output(const RunArgs& args, int i) { return static_cast<float*>(args.out[i]); }

template <void (*SoftmaxTable::*member)(const RowsArgs&), bool backward>
BoundKernel bind_rows(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const Shape& shape = spec.inputs[0].shape;
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  const int64_t width = shape.empty() ? 1 : shape.back();
  return {[run = table().*member, rows, width, past = cpu::Past(rows, width)](const RunArgs& args) {
    run({input(args, 0), backward ? input(args, 1) : nullptr, output(args, 0), rows, width,
         !backward && past(output(args, 0), {input(args, 0)})});
  }};
}

CrossEntropyArgs cross_entropy_args(const KernelSpec& spec) {
  CrossEntropyArgs a = {};
  a.rows = spec.inputs[0].shape[0];
  a.classes = spec.inputs[0].shape[1];
  a.smoothing = static_cast<float>(spec.attrs.real_or("label_smoothing", 0.0));
  a.ignores = spec.attrs.has("ignore_index");
  a.ignore_index = spec.attrs.integer_or("ignore_index", 0);
  return a;
}

void check_labels(const CrossEntropyArgs& a, const char* op) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t label = a.labels[r];
    DLCORE_CHECK((label >= 0 && label < a.classes) || (a.ignores && label == a.ignore_index), Index, "[", op,
                 "] label ", label, " of row ", r, " is outside [0, ", a.classes, ")");
  }
}

BoundKernel bind_cross_entropy(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  return {[run = table().cross_entropy, base = cross_entropy_args(spec)](const RunArgs& args) {
    CrossEntropyArgs a = base;
    a.x = input(args, 0);
    a.labels = static_cast<const int64_t*>(args.in[1]);
    a.out = output(args, 0);
    a.lse_out = output(args, 1);
    check_labels(a, "cross_entropy");
    run(a);
  }};
}

BoundKernel bind_cross_entropy_backward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  return {[run = table().cross_entropy_backward, base = cross_entropy_args(spec)](const RunArgs& args) {
    CrossEntropyArgs a = base;
    a.x = input(args, 0);
    a.labels = static_cast<const int64_t*>(args.in[1]);
    a.lse = input(args, 2);
    a.dloss = input(args, 3);
    a.out = output(args, 0);
    check_labels(a, "cross_entropy_backward");
    run(a);
  }};
}

}  // namespace

void register_cpu_softmax(Registry& r) {
  r.add("cpu", 10, "softmax", bind_rows<&SoftmaxTable::softmax, false>);
  r.add("cpu", 10, "log_softmax", bind_rows<&SoftmaxTable::log_softmax, false>);
  r.add("cpu", 10, "softmax_backward", bind_rows<&SoftmaxTable::softmax_backward, true>);
  r.add("cpu", 10, "log_softmax_backward", bind_rows<&SoftmaxTable::log_softmax_backward, true>);
  r.add("cpu", 10, "cross_entropy", bind_cross_entropy);
  r.add("cpu", 10, "cross_entropy_backward", bind_cross_entropy_backward);
}
#else
void register_cpu_softmax(Registry&) {}
#endif

}  // namespace dlcore
