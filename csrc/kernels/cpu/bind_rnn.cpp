#include "base/cpu.h"
#include "kernels/registry.h"

#if defined(__x86_64__)
#include "kernels/cpu/rnn.h"
#endif

namespace dlcore {

#if defined(__x86_64__)
namespace {

bool serves(const KernelSpec& spec) { return current_isa() != Isa::Ref && spec.inputs[0].dtype == DType::F32; }
const RecurrentTable& table() { return current_isa() == Isa::Avx512 ? avx512::recurrent_table : avx2::recurrent_table; }

const float* input(const RunArgs& args, int i) { return static_cast<const float*>(args.in[i]); }
float* output(const RunArgs& args, int i) { return static_cast<float*>(args.out[i]); }

// `sequence` is (steps, batch, width·hidden).
RecurrentArgs arguments(const KernelSpec& spec, Cell cell, int64_t width) {
  const Shape& sequence = spec.inputs[0].shape;
  RecurrentArgs a = {};
  a.cell = cell;
  a.steps = sequence[0];
  a.batch = sequence[1];
  a.hidden = sequence[2] / width;
  a.reverse = spec.attrs.integer_or("reverse", 0) != 0;
  a.relu = cell == Cell::Rnn && spec.attrs.has("nonlinearity") && spec.attrs.text("nonlinearity") == "relu";
  return a;
}

template <Cell kCell>
BoundKernel bind_forward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const RecurrentTable& code = table();
  const RecurrentArgs base = arguments(spec, kCell, gates_of(kCell));
  return {[run = code.forward, base](const RunArgs& args) {
            constexpr bool lstm = kCell == Cell::Lstm, gru = kCell == Cell::Gru;
            RecurrentArgs a = base;
            a.workspace = args.workspace;
            a.gates_x = input(args, 0);
            a.h0 = input(args, 1);
            if (lstm) a.c0 = input(args, 2);
            a.w = input(args, lstm ? 3 : 2);
            if (gru) a.b_n = input(args, 3);
            a.y = output(args, 0);
            a.last_h = output(args, 1);
            if (lstm) a.last_c = output(args, 2);
            a.gates = kCell == Cell::Rnn ? a.y : output(args, lstm ? 3 : 2);
            if (kCell != Cell::Rnn) a.extra = output(args, lstm ? 4 : 3);
            run(a);
          },
          code.forward_workspace(base)};
}

template <Cell kCell>
BoundKernel bind_backward(const KernelSpec& spec) {
  if (!serves(spec)) return {};
  const RecurrentTable& code = table();
  const RecurrentArgs base = arguments(spec, kCell, 1);
  return {[run = code.backward, base](const RunArgs& args) {
            constexpr bool lstm = kCell == Cell::Lstm, gru = kCell == Cell::Gru;
            RecurrentArgs a = base;
            a.workspace = args.workspace;
            int next = 0;
            a.dy = input(args, next++);
            a.dh = input(args, next++);
            if (lstm) a.dc = input(args, next++);
            a.h0 = input(args, next++);
            if (lstm) a.c0 = input(args, next++);
            a.w = input(args, next++);
            a.saved_y = input(args, next++);
            if (lstm || gru) a.saved_gates = input(args, next++);
            if (lstm || gru) a.saved_extra = input(args, next++);
            a.d_gates = output(args, 0);
            a.dh0 = output(args, 1);
            if (lstm) a.dc0 = output(args, 2);
            a.dw = output(args, lstm ? 3 : 2);
            if (gru) a.d_extra = output(args, 3);
            run(a);
          },
          code.backward_workspace(base)};
}

}  // namespace

void register_cpu_rnn(Registry& r) {
  r.add("cpu", 10, "lstm", bind_forward<Cell::Lstm>);
  r.add("cpu", 10, "gru", bind_forward<Cell::Gru>);
  r.add("cpu", 10, "rnn", bind_forward<Cell::Rnn>);
  r.add("cpu", 10, "lstm_backward", bind_backward<Cell::Lstm>);
  r.add("cpu", 10, "gru_backward", bind_backward<Cell::Gru>);
  r.add("cpu", 10, "rnn_backward", bind_backward<Cell::Rnn>);
}
#else
void register_cpu_rnn(Registry&) {}
#endif

}  // namespace dlcore
