// Recurrent layers. Each chain of h·Wᵀ starts at the input product, which stands where the gates will: the tile adds
// onto it, and one pass makes gates and state of it. W is packed once a call, in panels as wide as the tile. Rows of
// the batch go their way through all steps alone, in chunks; a single chunk shares out its panels instead.
#include "kernels/cpu/rnn.h"

#include "base/parallel.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa/gemm_micro.h"
#include "kernels/gates.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int64_t kChunkRows = 16;
constexpr int64_t kBlockDepth = 192;  // rows of a panel that stay in the first cache while all rows of the batch pass
constexpr int64_t kAlign = 16;        // floats

struct Blocking {
  int64_t chunk_rows, chunks, tile_rows, panel;
};
Blocking blocking(const RecurrentArgs& a) {
  const int64_t rows = even(a.batch, kChunkRows), tile_rows = even(rows, kTileRows);
  return {rows, ceil_div(a.batch, rows), tile_rows, wide_panel((int)tile_rows)};
}

// B of a product, `depth` by `cols`: panels of `width` columns each `panel_stride` apart, rows `row` apart.
struct Packed {
  const float* data;
  int64_t cols, width, panel_stride, row;
};

int64_t packed_floats(int64_t cols, int64_t depth, int64_t width) {
  return (ceil_div(cols, width) * width * depth + W + kAlign - 1) / kAlign * kAlign;
}

// Wᵀ of `cols` rows of w, each `depth` long.
Packed pack_rows(const float* w, int64_t cols, int64_t depth, int64_t width, float* to) {
  for (int64_t j = 0; j < cols; j += width)
    pack_transposed({w + j * depth, depth, min64(width, cols - j), depth, 1, depth, to + j * depth, width});
  return {to, cols, width, width * depth, width};
}

// W itself, (depth, cols): in place where one panel holds it or few rows stream over it.
bool packs_columns(const Blocking& b, int64_t cols) { return b.tile_rows > 3 && cols > b.panel; }
Packed pack_columns(const Blocking& b, const float* w, int64_t cols, int64_t depth, float* to) {
  if (!packs_columns(b, cols)) return {w, cols, b.panel, b.panel, cols};
  for (int64_t j = 0; j < cols; j += b.panel) {
    const int64_t n = min64(b.panel, cols - j);
    for (int64_t p = 0; p < depth; ++p)
      __builtin_memcpy(to + j * depth + p * b.panel, w + p * cols + j, sizeof(float) * (size_t)n);
  }
  return {to, cols, b.panel, b.panel * depth, b.panel};
}

struct Rows {
  int64_t first, count;
};
struct Operand {  // A: `depth` elements of each row; the rows of B from `b_first` on
  const float* a;
  int64_t a_row, depth, b_first;
};

// c[rows, cols] = chains from c, or from +0, over one operand after another.
void product(const Blocking& b, const Rows& rows, const Operand* operands, int count, const Packed& p, float* c,
             int64_t c_row, bool accumulate) {
  int64_t depth = 0;
  for (int i = 0; i < count; ++i) depth += operands[i].depth;
  const auto panel = [&](int64_t k) {
    const int64_t j = k * p.width;
    bool onto = accumulate;
    for (int i = 0; i < count; ++i) {
      const Operand& o = operands[i];
      const int64_t block = even(o.depth, kBlockDepth);
      for (int64_t d = 0; d < o.depth; d += block, onto = true) {
        const float* rows_of_b = p.data + k * p.panel_stride + (o.b_first + d) * p.row;
        for (int64_t r = 0; r < rows.count; r += b.tile_rows) {
          const int n = (int)min64(b.tile_rows, rows.count - r);
          const Segment s = {o.a + (rows.first + r) * o.a_row + d, rows_of_b, min64(block, o.depth - d)};
          run_tile(n, min64(p.width, p.cols - j),
                   {&s, 1, o.a_row, 1, p.row, c + (rows.first + r) * c_row + j, c_row, onto});
        }
      }
    }
  };
  const int64_t panels = ceil_div(p.cols, p.width);
  if (b.chunks == 1)
    parallel_for(panels, rows.count * p.cols * depth / W, panel);
  else
    for (int64_t k = 0; k < panels; ++k) panel(k);
}

DLCORE_INLINE VF get(const float* p, int n) { return n == W ? load(p) : load_partial(p, n); }
DLCORE_INLINE void put(float* p, VF v, int n) {
  if (n == W)
    store(p, v);
  else
    store_partial(p, v, n);
}
DLCORE_INLINE VF one_less_square(VF x) { return fma(-x, x, splat(1.0f)); }
DLCORE_INLINE VF slope(VF s) { return s * (1.0f - s); }  // of a sigmoid, by its value

// f(column, lanes) over the hidden columns, a vector at a time.
template <class F>
DLCORE_INLINE void each_vector(int64_t hidden, F f) {
  int64_t j = 0;
  for (; j + W <= hidden; j += W) f(j, W);
  if (j < hidden) f(j, (int)(hidden - j));
}

// Step s of the recurrence: its time, and where its incoming state lies.
struct Step {
  int64_t at;      // offset of its rows in a (steps, batch) sequence
  int64_t before;  // that of the step before; none (s == 0): the initial state
  bool first;
  const float* previous(const float* initial, const float* sequence, int64_t hidden) const {
    return first ? initial : sequence + before * hidden;
  }
};
Step step_at(const RecurrentArgs& a, int64_t s) {
  const int64_t t = a.reverse ? a.steps - 1 - s : s;
  return {t * a.batch, (a.reverse ? t + 1 : t - 1) * a.batch, s == 0};
}

void copy(float* to, const float* from, int64_t n) { __builtin_memcpy(to, from, sizeof(float) * (size_t)n); }

void lstm_gates(const RecurrentArgs& a, const Step& step, int64_t row) {
  const int64_t h = a.hidden, at = step.at + row;
  float *gates = a.gates + at * 4 * h, *cell = a.extra + at * h, *y = a.y + at * h;
  const float* before = step.previous(a.c0, a.extra, h) + row * h;
  each_vector(
      h, [&](int64_t j, int n) __attribute__((always_inline)) {
        float* p = gates + j;
        const VF i = gate_sigmoid(get(p, n)), f = gate_sigmoid(get(p + h, n)), g = gate_tanh(get(p + 2 * h, n));
        const VF o = gate_sigmoid(get(p + 3 * h, n));
        const VF c = fma(f, get(before + j, n), i * g);
        put(p, i, n);
        put(p + h, f, n);
        put(p + 2 * h, g, n);
        put(p + 3 * h, o, n);
        put(cell + j, c, n);
        put(y + j, o * gate_tanh(c), n);
      });
}

void gru_gates(const RecurrentArgs& a, const Step& step, int64_t row) {
  const int64_t h = a.hidden, at = step.at + row;
  float *gates = a.gates + at * 3 * h, *y = a.y + at * h;
  const float *products = a.extra + at * h, *before = step.previous(a.h0, a.y, h) + row * h;
  each_vector(
      h, [&](int64_t j, int n) __attribute__((always_inline)) {
        float* p = gates + j;
        const VF r = gate_sigmoid(get(p, n)), z = gate_sigmoid(get(p + h, n));
        const VF candidate = gate_tanh(fma(r, get(products + j, n), get(p + 2 * h, n)));
        put(p, r, n);
        put(p + h, z, n);
        put(p + 2 * h, candidate, n);
        put(y + j, fma(z, get(before + j, n) - candidate, candidate), n);
      });
}

void rnn_gates(const RecurrentArgs& a, const Step& step, int64_t row) {
  float* y = a.y + (step.at + row) * a.hidden;
  each_vector(
      a.hidden, [&](int64_t j, int n) __attribute__((always_inline)) {
        const VF x = get(y + j, n);
        put(y + j, a.relu ? select(x < 0.0f, VF{}, x) : gate_tanh(x), n);
      });
}

// D is the gradient of the step's output; the running gradients of the states are dh0 and dc0.
void lstm_backward(const RecurrentArgs& a, const Step& step, int64_t row) {
  const int64_t h = a.hidden, at = step.at + row;
  const float *gates = a.saved_gates + at * 4 * h, *cell = a.saved_extra + at * h, *dy = a.dy + at * h;
  const float* before = step.previous(a.c0, a.saved_extra, h) + row * h;
  float *d = a.d_gates + at * 4 * h, *dh = a.dh0 + row * h, *dc0 = a.dc0 + row * h;
  each_vector(
      h, [&](int64_t j, int n) __attribute__((always_inline)) {
        const float* p = gates + j;
        const VF i = get(p, n), f = get(p + h, n), g = get(p + 2 * h, n), o = get(p + 3 * h, n);
        const VF D = get(dy + j, n) + get(dh + j, n), squashed = gate_tanh(get(cell + j, n));
        const VF dc = fma(D * o, one_less_square(squashed), get(dc0 + j, n));
        put(d + j, (dc * g) * slope(i), n);
        put(d + h + j, (dc * get(before + j, n)) * slope(f), n);
        put(d + 2 * h + j, (dc * i) * one_less_square(g), n);
        put(d + 3 * h + j, (D * squashed) * slope(o), n);
        put(dc0 + j, dc * f, n);
      });
}

void gru_backward(const RecurrentArgs& a, const Step& step, int64_t row) {
  const int64_t h = a.hidden, at = step.at + row;
  const float *gates = a.saved_gates + at * 3 * h, *products = a.saved_extra + at * h, *dy = a.dy + at * h;
  const float* before = step.previous(a.h0, a.saved_y, h) + row * h;
  float *d = a.d_gates + at * 3 * h, *d_products = a.d_extra + at * h, *dh = a.dh0 + row * h;
  each_vector(
      h, [&](int64_t j, int n) __attribute__((always_inline)) {
        const float* p = gates + j;
        const VF r = get(p, n), z = get(p + h, n), candidate = get(p + 2 * h, n);
        const VF D = get(dy + j, n) + get(dh + j, n);
        const VF dn = (D * (1.0f - z)) * one_less_square(candidate);
        const VF dr = (dn * get(products + j, n)) * slope(r), dz = (D * (get(before + j, n) - candidate)) * slope(z);
        put(d + j, dr, n);
        put(d + h + j, dz, n);
        put(d + 2 * h + j, dn, n);
        put(d_products + j, dn * r, n);
        put(dh + j, D * z, n);
      });
}

void rnn_backward(const RecurrentArgs& a, const Step& step, int64_t row) {
  const int64_t at = (step.at + row) * a.hidden;
  const float *dh = a.dh0 + row * a.hidden, *dy = a.dy + at, *y = a.saved_y + at;
  float* d = a.d_gates + at;
  each_vector(
      a.hidden, [&](int64_t j, int n) __attribute__((always_inline)) {
        const VF D = get(dy + j, n) + get(dh + j, n), v = get(y + j, n);
        put(d + j, a.relu ? select(v > 0.0f, D, VF{}) : D * one_less_square(v), n);
      });
}

// Runs body(rows) over the chunks of the batch.
template <class F>
void each_chunk(const RecurrentArgs& a, const Blocking& b, F body) {
  const auto chunk = [&](int64_t i) { body(Rows{i * b.chunk_rows, min64(b.chunk_rows, a.batch - i * b.chunk_rows)}); };
  const int64_t work = a.steps * a.batch * gates_of(a.cell) * a.hidden * (a.hidden / W + 8);
  if (b.chunks == 1)
    chunk(0);  // on the caller, so that the products inside may be shared out
  else
    parallel_for(b.chunks, work, chunk);
}

bool nothing(const RecurrentArgs& a) { return a.batch == 0 || a.hidden == 0; }

size_t forward_workspace(const RecurrentArgs& a) {
  if (nothing(a)) return 0;
  const int64_t h = a.hidden, width = blocking(a).panel;
  const int64_t joint = a.cell == Cell::Gru ? 2 : gates_of(a.cell);
  const int64_t floats = packed_floats(joint * h, h, width) + (a.cell == Cell::Gru ? packed_floats(h, h, width) : 0);
  return sizeof(float) * (size_t)floats;
}

void forward(const RecurrentArgs& a) {
  if (nothing(a)) return;
  const Blocking b = blocking(a);
  const int64_t h = a.hidden, gates = gates_of(a.cell), joint = a.cell == Cell::Gru ? 2 : gates;
  float* space = static_cast<float*>(a.workspace);
  const Packed w = pack_rows(a.w, joint * h, h, b.panel, space);
  Packed w_n = {};
  if (a.cell == Cell::Gru) w_n = pack_rows(a.w + 2 * h * h, h, h, b.panel, space + packed_floats(2 * h, h, b.panel));
  const auto cell = a.cell == Cell::Lstm ? lstm_gates : a.cell == Cell::Gru ? gru_gates : rnn_gates;
  each_chunk(a, b, [&](const Rows& rows) {
    const int64_t end = rows.first + rows.count;
    for (int64_t s = 0; s < a.steps; ++s) {
      const Step step = step_at(a, s);
      const Operand state = {step.previous(a.h0, a.y, h), h, h, 0};
      const int64_t from = (step.at + rows.first) * gates * h;
      if (a.gates != a.gates_x) copy(a.gates + from, a.gates_x + from, rows.count * gates * h);
      product(b, rows, &state, 1, w, a.gates + step.at * gates * h, gates * h, true);
      if (a.cell == Cell::Gru) {
        for (int64_t r = rows.first; r < end; ++r) copy(a.extra + (step.at + r) * h, a.b_n, h);
        product(b, rows, &state, 1, w_n, a.extra + step.at * h, h, true);
      }
      for (int64_t r = rows.first; r < end; ++r) cell(a, step, r);
    }
    const Step after = {0, a.steps == 0 ? 0 : step_at(a, a.steps - 1).at, a.steps == 0};
    copy(a.last_h + rows.first * h, after.previous(a.h0, a.y, h) + rows.first * h, rows.count * h);
    if (a.cell == Cell::Lstm)
      copy(a.last_c + rows.first * h, after.previous(a.c0, a.extra, h) + rows.first * h, rows.count * h);
  });
}

// The product of the weight gradient: dw = aᵀ·(states before each step), `rows` rows of it.
GemmArgs weight_product(const RecurrentArgs& a, int64_t rows, int64_t stride) {
  static constexpr int64_t kZero[1] = {0};
  GemmArgs g;
  g.m = rows;
  g.n = a.hidden;
  g.k = a.steps * a.batch;
  g.a_row = 1;
  g.a_col = stride;
  g.ldb = a.hidden;
  g.a_offset = g.b_offset = kZero;
  return g;
}
struct BackwardSpace {
  int64_t packed, states;  // floats
  size_t products;         // bytes
};
BackwardSpace backward_space(const RecurrentArgs& a) {
  const Blocking b = blocking(a);
  const int64_t h = a.hidden, gates = gates_of(a.cell);
  const int64_t packed = packs_columns(b, h) ? packed_floats(h, gates * h, b.panel) : 0;
  const int64_t states = ceil_div(a.steps * a.batch * h, kAlign) * kAlign;
  size_t products = gemm_table.workspace(weight_product(a, a.cell == Cell::Gru ? 2 * h : gates * h, gates * h));
  if (a.cell == Cell::Gru) {
    const size_t last = gemm_table.workspace(weight_product(a, h, h));
    products = last > products ? last : products;
  }
  return {packed, states, products};
}
size_t backward_workspace(const RecurrentArgs& a) {
  if (nothing(a)) return 0;
  const BackwardSpace s = backward_space(a);
  return sizeof(float) * (size_t)(s.packed + s.states) + s.products;
}

void backward(const RecurrentArgs& a) {
  const int64_t h = a.hidden, gates = gates_of(a.cell), joint = a.cell == Cell::Gru ? 2 : gates;
  if (nothing(a) || a.steps == 0) __builtin_memset(a.dw, 0, sizeof(float) * (size_t)(gates * h * h));
  if (nothing(a)) return;
  const Blocking b = blocking(a);
  const BackwardSpace sizes = backward_space(a);
  float* space = static_cast<float*>(a.workspace);
  float* states = space + sizes.packed;
  const Packed w = pack_columns(b, a.w, h, gates * h, space);
  const auto cell = a.cell == Cell::Lstm ? lstm_backward : a.cell == Cell::Gru ? gru_backward : rnn_backward;
  each_chunk(a, b, [&](const Rows& rows) {
    const int64_t end = rows.first + rows.count;
    copy(a.dh0 + rows.first * h, a.dh + rows.first * h, rows.count * h);
    if (a.cell == Cell::Lstm) copy(a.dc0 + rows.first * h, a.dc + rows.first * h, rows.count * h);
    for (int64_t s = a.steps; s-- > 0;) {
      const Step step = step_at(a, s);
      for (int64_t r = rows.first; r < end; ++r) cell(a, step, r);
      const Operand operands[2] = {{a.d_gates + step.at * gates * h, gates * h, joint * h, 0},
                                   {a.d_extra + (a.cell == Cell::Gru ? step.at * h : 0), h, h, joint * h}};
      const bool gru = a.cell == Cell::Gru;
      product(b, rows, operands, gru ? 2 : 1, w, a.dh0, h, gru);
      copy(states + (step.at + rows.first) * h, step.previous(a.h0, a.saved_y, h) + rows.first * h, rows.count * h);
    }
  });
  if (a.steps == 0) return;
  GemmArgs g = weight_product(a, joint * h, gates * h);
  g.a = a.d_gates;
  g.b = states;
  g.c = a.dw;
  g.workspace = states + sizes.states;
  gemm_table.run(g);
  if (a.cell != Cell::Gru) return;
  GemmArgs n = weight_product(a, h, h);
  n.a = a.d_extra;
  n.b = states;
  n.c = a.dw + 2 * h * h;
  n.workspace = g.workspace;
  gemm_table.run(n);
}

}  // namespace

const RecurrentTable recurrent_table = {forward_workspace, backward_workspace, forward, backward};

}  // namespace dlcore::DLCORE_ISA
