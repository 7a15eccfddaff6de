// Arguments and entry points of the recurrent layers; docs/ops.md has their meaning.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace dlcore {

enum class Cell { Lstm, Gru, Rnn };
constexpr int64_t gates_of(Cell cell) { return cell == Cell::Lstm ? 4 : cell == Cell::Gru ? 3 : 1; }

struct RecurrentArgs {  // sequences are (steps, batch, …), states (batch, hidden), w (gates·hidden, hidden)
  Cell cell;
  int64_t steps, batch, hidden;
  bool reverse, relu;
  const float *h0, *c0, *w;
  void* workspace;
  // Forward: reads gates_x and b_n (GRU), writes the others.
  const float *gates_x, *b_n;
  float *y, *last_h, *last_c, *gates;
  float* extra;  // LSTM: cells; GRU: h·W_nᵀ + b_n
  // Backward: reads what forward wrote.
  const float *saved_y, *saved_gates, *saved_extra;
  const float *dy, *dh, *dc;
  float *d_gates, *dh0, *dc0, *dw;
  float* d_extra;  // GRU
};

struct RecurrentTable {
  size_t (*forward_workspace)(const RecurrentArgs&);  // bytes; look at the sizes only
  size_t (*backward_workspace)(const RecurrentArgs&);
  void (*forward)(const RecurrentArgs&);
  void (*backward)(const RecurrentArgs&);
};

namespace avx2 {
extern const RecurrentTable recurrent_table;
}
namespace avx512 {
extern const RecurrentTable recurrent_table;
}

}  // namespace dlcore
