// Recurrent layers. Each chain of h·Wᵀ starts at the input product, which stands where the gates will: the tile adds
// onto it, and one pass makes gates and state of it. W is packed once a call, in panels as wide as the tile. Rows of
// the batch go their way through all steps alone, in chunks; a single chunk shares out its panels instead.
#include "kernels/cpu/rnn.h"

#include "base/parallel.h"
#include "kernels/cpu/isa/gemm_micro.h"
#include "kernels/quick_exp.h"

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
  int64_t ahead;  // from its rows to those of the step that comes next, to be fetched early
  const float* previous(const float* initial, const float* sequence, int64_t hidden) const {
    return first ? initial : sequence + before * hidden;
  }
};
Step step_at(const RecurrentArgs& a, int64_t s, bool backward = false) {
  const int64_t t = a.reverse ? a.steps - 1 - s : s, before = (a.reverse ? 1 : -1) * a.batch;
  const bool last = backward ? s == 0 : s + 1 == a.steps;
  return {t * a.batch, t * a.batch + before, s == 0, last ? 0 : backward ? before : -before};
}
DLCORE_INLINE void fetch(const float* p) { __builtin_prefetch(p, 0, 2); }

void copy(float* to, const float* from, int64_t n) { __builtin_memcpy(to, from, sizeof(float) * (size_t)n); }

void lstm_gates(const RecurrentArgs& a, const Step& step, int64_t row) {
  const int64_t h = a.hidden, at = step.at + row;
  float *gates = a.gates + at * 4 * h, *cell = a.extra + at * h, *y = a.y + at * h;
  const float* before = step.previous(a.c0, a.extra, h) + row * h;
  each_vector(
      h, [&](int64_t j, int n) __attribute__((always_inline)) {
        float* p = gates + j;
        for (int64_t k = 0; k < 4; ++k) fetch(p + (step.ahead * 4 + k) * h);
        const VF i = gate_sigmoid(get(p, n)), f = gate_sigmoid(get(p + h, n)), g = tanh(get(p + 2 * h, n));
        const VF o = gate_sigmoid(get(p + 3 * h, n));
        const VF c = fma(f, get(before + j, n), i * g);
        put(p, i, n);
        put(p + h, f, n);
        put(p + 2 * h, g, n);
        put(p + 3 * h, o, n);
        put(cell + j, c, n);
        put(y + j, o * tanh(c), n);
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
        const VF candidate = tanh(fma(r, get(products + j, n), get(p + 2 * h, n)));
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
        put(y + j, a.relu ? select(x < 0.0f, VF{}, x) : tanh(x), n);
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
        for (int64_t k = 0; k < 4; ++k) fetch(p + (step.ahead * 4 + k) * h);
        fetch(cell + j + step.ahead * h);
        fetch(dy + j + step.ahead * h);
        const VF i = get(p, n), f = get(p + h, n), g = get(p + 2 * h, n), o = get(p + 3 * h, n);
        const VF D = get(dy + j, n) + get(dh + j, n), squashed = tanh(get(cell + j, n));
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

// Runs body(rows) over the chunks of the batch, for so many steps.
template <class F>
void each_chunk(const RecurrentArgs& a, const Blocking& b, int64_t steps, F body) {
  const auto chunk = [&](int64_t i) { body(Rows{i * b.chunk_rows, min64(b.chunk_rows, a.batch - i * b.chunk_rows)}); };
  const int64_t work = steps * a.batch * gates_of(a.cell) * a.hidden * (a.hidden / W + 8);
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
  each_chunk(a, b, a.steps, [&](const Rows& rows) {
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
    const Step after = {0, a.steps == 0 ? 0 : step_at(a, a.steps - 1).at, a.steps == 0, 0};
    copy(a.last_h + rows.first * h, after.previous(a.h0, a.y, h) + rows.first * h, rows.count * h);
    if (a.cell == Cell::Lstm)
      copy(a.last_c + rows.first * h, after.previous(a.c0, a.extra, h) + rows.first * h, rows.count * h);
  });
}

// The weight gradient takes the steps in blocks, while their gradients lie in the second cache.
constexpr int64_t kWeightFloats = 96 << 10;  // gradients of a block
constexpr int64_t kWeightDepth = 192;        // rows of it a strip packs at a time
int64_t steps_a_block(const RecurrentArgs& a) {
  const int64_t fit = kWeightFloats / (gates_of(a.cell) * a.hidden * a.batch);
  return fit < 1 ? 1 : min64(fit, a.steps);
}

// The states before each row of a block's steps, the latest step first: panels of kPanel columns.
struct States {
  float* data;
  int64_t rows;
  float* at(int64_t row, int64_t column) const { return data + column * rows + row * kPanel; }
};

// dw[first …, hidden] goes on its chains over a block of steps, of `count` rows of gradients, `stride` apart, with the
// states.
void add_weight_gradient(const RecurrentArgs& a, int64_t last_step, const States& states, const float* d,
                         int64_t stride, int64_t count, float* dw) {
  const int64_t h = a.hidden, tile = even(count, kTileRows), tiles = ceil_div(count, tile);
  parallel_for(tiles, states.rows * count * h / W, [&](int64_t k) {
    float strip[kTileRows * kWeightDepth + W];
    const int64_t r = k * tile, rows = min64(tile, count - r);
    for (int64_t first = 0; first < states.rows; first += kWeightDepth) {
      const int64_t depth = min64(kWeightDepth, states.rows - first);
      int64_t s = last_step - first / a.batch, row = first % a.batch;
      const float* from = d + step_at(a, s).at * stride + r;
      for (int64_t i = 0; i < depth; ++i) {
        store(strip + i * rows, load_partial(from + row * stride, (int)rows));
        if (++row < a.batch) continue;
        row = 0;
        if (--s >= 0) from = d + step_at(a, s).at * stride + r;
      }
      const bool onto = first > 0 || last_step + 1 < a.steps;
      for (int64_t j = 0; j < h; j += kPanel) {
        const Segment segment = {strip, states.at(first, j), depth};
        run_tile((int)rows, min64(kPanel, h - j), {&segment, 1, 1, rows, kPanel, dw + r * h + j, h, onto});
      }
    }
  });
}

struct BackwardSpace {
  int64_t packed, states;  // floats
};
BackwardSpace backward_space(const RecurrentArgs& a) {
  const Blocking b = blocking(a);
  const int64_t h = a.hidden;
  return {packs_columns(b, h) ? packed_floats(h, gates_of(a.cell) * h, b.panel) : 0,
          packed_floats(h, steps_a_block(a) * a.batch, kPanel)};
}
size_t backward_workspace(const RecurrentArgs& a) {
  if (nothing(a)) return 0;
  const BackwardSpace s = backward_space(a);
  return sizeof(float) * (size_t)(s.packed + s.states);
}

void backward(const RecurrentArgs& a) {
  const int64_t h = a.hidden, gates = gates_of(a.cell), joint = a.cell == Cell::Gru ? 2 : gates;
  if (nothing(a) || a.steps == 0) __builtin_memset(a.dw, 0, sizeof(float) * (size_t)(gates * h * h));
  if (nothing(a)) return;
  const Blocking b = blocking(a);
  float* space = static_cast<float*>(a.workspace);
  const Packed w = pack_columns(b, a.w, h, gates * h, space);
  const auto cell = a.cell == Cell::Lstm ? lstm_backward : a.cell == Cell::Gru ? gru_backward : rnn_backward;
  copy(a.dh0, a.dh, a.batch * h);
  if (a.cell == Cell::Lstm) copy(a.dc0, a.dc, a.batch * h);
  const int64_t block = steps_a_block(a);
  for (int64_t end = a.steps; end > 0; end -= block) {
    const int64_t begin = max64(0, end - block);
    const States states = {space + backward_space(a).packed, (end - begin) * a.batch};
    each_chunk(a, b, end - begin, [&](const Rows& rows) {
      for (int64_t s = end; s-- > begin;) {
        const Step step = step_at(a, s, true);
        for (int64_t r = rows.first; r < rows.first + rows.count; ++r) cell(a, step, r);
        const Operand operands[2] = {{a.d_gates + step.at * gates * h, gates * h, joint * h, 0},
                                     {a.d_extra + (a.cell == Cell::Gru ? step.at * h : 0), h, h, joint * h}};
        const bool gru = a.cell == Cell::Gru;
        product(b, rows, operands, gru ? 2 : 1, w, a.dh0, h, gru);
        const float* before = step.previous(a.h0, a.saved_y, h);
        for (int64_t r = rows.first; r < rows.first + rows.count; ++r)
          for (int64_t j = 0; j < h; j += kPanel)
            copy(states.at((end - 1 - s) * a.batch + r, j), before + r * h + j, min64(kPanel, h - j));
      }
    });
    add_weight_gradient(a, end - 1, states, a.d_gates, gates * h, joint * h, a.dw);
    if (a.cell == Cell::Gru) add_weight_gradient(a, end - 1, states, a.d_extra, h, h, a.dw + 2 * h * h);
  }
}

}  // namespace

const RecurrentTable recurrent_table = {forward_workspace, backward_workspace, forward, backward};

}  // namespace dlcore::DLCORE_ISA
