#include "kernels/cpu/isa/gemm_micro.h"

namespace dlcore::DLCORE_ISA {
namespace {

// One step of k: broadcasts from A for rows First … Last of R, V vectors of B.
template <int R, int V, bool Partial, bool Pinned, int First = 0, int Last = R, class F>
DLCORE_INLINE void step(VF (&acc)[R][V], F a, const float* b, int tail) {
  VF bv[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) bv[v] = Partial && v == V - 1 ? load_partial(b + v * W, tail) : load(b + v * W);
#pragma GCC unroll 16
  for (int r = First; r < Last; ++r) {
    const VF x = splat(a(r));
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (Pinned)
        accumulate(acc[r][v], x, bv[v]);
      else
        acc[r][v] = fma(x, bv[v], acc[r][v]);
    }
  }
}

// The chains of R rows by V vectors, the last one of `tail` lanes when Partial, begin at `from` or, without it, at +0 …
template <int R, int V, bool Partial>
DLCORE_INLINE void begin(VF (&acc)[R][V], const float* from, int64_t row, int tail) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = VF{};
  }
  if (!from) return;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      acc[r][v] = Partial && v == V - 1 ? load_partial(from + r * row + v * W, tail) : load(from + r * row + v * W);
  }
}

// … and end there, those of rows First … Last, with what they are added to, the bias and the relu.
template <int R, int V, bool Partial, int First = 0, int Last = R>
DLCORE_INLINE void end(VF (&acc)[R][V], const float* add, int64_t add_row, float* c, int64_t c_row, const float* bias,
                       bool relu, int tail) {
  if (add) {
#pragma GCC unroll 16
    for (int r = First; r < Last; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const float* at = add + r * add_row + v * W;
        acc[r][v] = (Partial && v == V - 1 ? load_partial(at, tail) : load(at)) + acc[r][v];
      }
    }
  }
  if (bias) {
    VF x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = Partial && v == V - 1 ? load_partial(bias + v * W, tail) : load(bias + v * W);
#pragma GCC unroll 16
    for (int r = First; r < Last; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = acc[r][v] + x[v];
    }
    if (relu) {
#pragma GCC unroll 16
      for (int r = First; r < Last; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[r][v] = rectified(acc[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = First; r < Last; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (Partial && v == V - 1)
        store_partial(c + r * c_row + v * W, acc[r][v], tail);
      else
        store(c + r * c_row + v * W, acc[r][v]);
    }
  }
}

// Of a tall tile the last steps go over one half of the rows and then over the other. More than some 18 stores of 64
// bytes that wait for their sums would let nothing pass until the multiplications before them are done: 48 cycles a
// tile.
constexpr int first_half(int rows, int vectors) { return W == 16 && rows * vectors > 18 ? (rows + 1) / 2 : rows; }
constexpr int kLastSteps = 4;

// Each pointer into A serves three rows, which x86 addresses as p, p + a_row, p + 2·a_row: fourteen pointers would not
// fit the registers.
template <int R, int V, bool Partial>
void tile(const TileArgs& t, int64_t column, int tail) {
  constexpr int G = (R + 2) / 3;
  VF acc[R][V];
  begin<R, V, Partial>(acc, t.accumulate && !t.adds ? t.c + column : nullptr, t.c_row, tail);
  const int64_t a_row = t.a_row, a_step = t.a_step, b_row = t.b_row;
  const float *a[G], *b = nullptr;
  const auto go = [&](int64_t steps, auto from, auto to) DLCORE_LAMBDA {
    // Constant offsets where A's rows or its columns are runs of memory: of four steps all but a few additions go.
    if constexpr (W == 16 && V == 2 && !Partial && to - from == R) {
      if (a_row == 1) {
        const float* p = a[0];
        for (; steps >= 4; steps -= 4) {
#pragma GCC unroll 4
          for (int u = 0; u < 4; ++u, p += a_step, b += b_row)
            step<R, V, Partial, true, from, to>(
                acc, [&](int r) DLCORE_LAMBDA { return p[r]; }, b, tail);
        }
#pragma GCC unroll 8
        for (int g = 0; g < G; ++g) a[g] = p + 3 * g;
      } else if (a_step == 1) {
        for (; steps >= 4; steps -= 4) {
#pragma GCC unroll 4
          for (int u = 0; u < 4; ++u, b += b_row)
            step<R, V, Partial, true, from, to>(
                acc, [&](int r) DLCORE_LAMBDA { return a[r / 3][(r % 3) * a_row + u]; }, b, tail);
#pragma GCC unroll 8
          for (int g = 0; g < G; ++g) a[g] += 4;
        }
      }
    }
    for (; steps > 0; --steps) {
      step<R, V, Partial, false, from, to>(
          acc, [&](int r) DLCORE_LAMBDA { return a[r / 3][(r % 3) * a_row]; }, b, tail);
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) a[g] += a_step;
      b += b_row;
    }
  };
  const auto finish = [&](auto from, auto to) DLCORE_LAMBDA {
    end<R, V, Partial, from, to>(acc, t.accumulate && t.adds ? t.c + column : nullptr, t.c_row, t.c + column, t.c_row,
                                 t.bias ? t.bias + column : nullptr, t.relu, tail);
  };
  constexpr Constant<0> none;
  constexpr Constant<R> all;
  constexpr Constant<first_half(R, V)> half;
  const bool halves = half < all && t.count > 0 && t.segments[t.count - 1].length >= kLastSteps;
  for (int64_t s = 0; s < t.count; ++s) {
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) a[g] = t.segments[s].a + 3 * g * a_row;
    b = t.segments[s].b + column;
    go(t.segments[s].length - (halves && s + 1 == t.count ? kLastSteps : 0), none, all);
  }
  if (!halves) return finish(none, all);
  go(kLastSteps, none, half);
  finish(none, half);
#pragma GCC unroll 8
  for (int g = 0; g < G; ++g) a[g] -= kLastSteps * a_step;
  b -= kLastSteps * b_row;
  go(kLastSteps, half, all);
  finish(half, all);
}

// Where A and B are read. Columns: A as [k][R]; otherwise its rows lie a_row apart. B's rows lie kRow apart.
template <int R, bool Columns, int kRow>
struct Place {
  static constexpr int G = Columns ? 1 : (R + 2) / 3, kStep = Columns ? R : 1;
  const float *a[G], *b;
  int64_t a_row;

  DLCORE_INLINE Place(const float* first, int64_t row, const float* b_first) : b(b_first), a_row(row) {
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) a[g] = first + 3 * g * a_row;
  }
  DLCORE_INLINE void advance(int steps) {
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) a[g] += steps * kStep;
    b += steps * kRow;
  }
  // Step u from here, rows First … Last.
  template <int First, int Last, int V>
  DLCORE_INLINE void multiply(VF (&acc)[R][V], int u) const {
    step<R, V, false, true, First, Last>(
        acc, [&](int r) DLCORE_LAMBDA { return Columns ? a[0][u * R + r] : a[r / 3][(r % 3) * a_row + u]; },
        b + u * kRow, W);
  }
};

// What is asked for ahead as tiles go over k, a group a turn; when all is, the last line again and again, which costs
// less than to look. It stays in memory (volatile): the sums need the registers.
class Asking {
 public:
  explicit Asking(const PackedArgs& t) : then_(&t.then) {
    begin(t.first);
    if (left_ == 0) go_on();
    if (left_ == 0) at_ = t.a;
  }
  // body(turns, at, step) for stretches of turns that ask for one run of memory.
  template <class F>
  DLCORE_INLINE void over(int64_t turns, F&& body) {
    while (turns > 0) {
      const bool asks = left_ > 0;
      const int64_t count = asks ? min64(turns, left_of_row_) : turns;
      body(count, at_, asks ? Ahead::kGroup : 0);
      turns -= count;
      if (asks) advance(count);
    }
  }

 private:
  DLCORE_INLINE void begin(const Ahead& a) {
    at_ = a.at;
    left_ = a.left;
    row_groups_ = a.row_groups;
    left_of_row_ = a.row_groups;
    skip_ = a.skip;
  }
  DLCORE_INLINE void go_on() {
    const Ahead* then = then_;
    if (then && then->left > 0) begin(*then);
    then_ = nullptr;
  }
  DLCORE_INLINE void advance(int64_t turns) {
    at_ = at_ + turns * Ahead::kGroup;
    left_of_row_ = left_of_row_ - turns;
    left_ = left_ - turns;
    if (left_of_row_ == 0) {
      at_ = at_ + skip_;
      left_of_row_ = row_groups_;
    }
    if (left_ == 0) go_on();
  }
  const float* volatile at_;
  volatile int64_t left_, left_of_row_, row_groups_, skip_;
  const Ahead* volatile then_;
};

// The addressing that the instruction has: the compiler would hold each line's address in a register.
DLCORE_INLINE void ask_for_group(const float* p) {
#pragma GCC unroll 4
  for (int i = 0; i < Ahead::kGroup; i += 16) __asm__ volatile("prefetcht1 %0" : : "m"(p[i]));
}

// The sums go over `length` steps of k, kSteps to a turn: constant offsets serve them without additions to pointers
// between the multiplications. A processor that runs two threads on a core gives each half of its slots for
// instructions: there it is 87 against 79% of the peak.
template <int R, int V, bool Columns, int kRow, int kSteps>
DLCORE_INLINE void go_over(VF (&acc)[R][V], Place<R, Columns, kRow> place, int64_t length, Asking* asking = nullptr) {
  const auto turn = [&]() DLCORE_LAMBDA {
#pragma GCC unroll 4
    for (int u = 0; u < kSteps; ++u) place.template multiply<0, R>(acc, u);
    place.advance(kSteps);
  };
  if (asking) {
    asking->over(length / kSteps, [&](int64_t turns, const float* at, int64_t step) DLCORE_LAMBDA {
      for (; turns > 0; --turns, at += step) {
        ask_for_group(at);
        turn();
      }
    });
  } else {
    for (int64_t turns = length / kSteps; turns > 0; --turns) turn();
  }
#pragma GCC unroll 1
  for (length %= kSteps; length > 0; --length) {
    place.template multiply<0, R>(acc, 0);
    place.advance(1);
  }
}

// The last kLastSteps steps, and done(first row, row after the last) as the sums stand.
template <int R, int V, bool Columns, int kRow, class Done>
DLCORE_INLINE void finish(VF (&acc)[R][V], const Place<R, Columns, kRow>& place, Done&& done) {
  constexpr int kHalf = first_half(R, V);
#pragma GCC unroll 8
  for (int u = 0; u < kLastSteps; ++u) place.template multiply<0, kHalf>(acc, u);
  done(Constant<0>(), Constant<kHalf>());
#pragma GCC unroll 8
  for (int u = 0; u < kLastSteps; ++u) place.template multiply<kHalf, R>(acc, u);
  done(Constant<kHalf>(), Constant<R>());
}
template <int R, int V>
DLCORE_INLINE int64_t last_steps(int64_t length) {
  return first_half(R, V) < R && length >= kLastSteps ? kLastSteps : 0;
}

template <int R, bool Columns, int kRow, int V = 2>
void packed_tiles(const PackedArgs& t) {
  const bool below = t.b_next == 0;
  const int64_t a_next = below ? t.a_next : 0, c_next = below ? R * t.c_row : kRow;
  const int64_t from_next = below ? R * t.from_row : kRow, bias_next = below ? 0 : kRow;
  const float *first = t.a, *b = t.b, *from = t.from, *bias = t.bias;
  float* c = t.c;
  Asking asking(t);
  for (int64_t i = 0; i < t.tiles; ++i, first += a_next, b += t.b_next, c += c_next) {
    VF acc[R][V];
    begin<R, V, false>(acc, t.adds ? nullptr : from, t.from_row, W);
    const auto done = [&](auto row, auto end_row) DLCORE_LAMBDA {
      end<R, V, false, row, end_row>(acc, t.adds ? from : nullptr, t.from_row, c, t.c_row, bias, t.relu, W);
    };
    using From = Place<R, Columns, kRow>;
    const int64_t before = t.k - last_steps<R, V>(t.k);
    go_over<R, V, Columns, kRow, 4>(acc, From(first, t.a_row, b), before, &asking);
    if (before < t.k)
      finish(acc, From(first + before * From::kStep, t.a_row, b + before * kRow), done);
    else
      done(Constant<0>(), Constant<R>());
    if (from) from += from_next;
    if (bias) bias += bias_next;
  }
}

template <int R>
void short_tiles(const ShortArgs& t) {
  constexpr int V = 2;
  float* c = t.c;
  for (int64_t i = 0; i < t.tiles; ++i, c += R * t.c_row) {
    VF acc[R][V];
    begin<R, V, false>(acc, t.accumulate ? c : nullptr, t.c_row, W);
#pragma GCC unroll 16
    for (int r = R; r < 2 * R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V * W; v += 16) __builtin_prefetch(c + r * t.c_row + v, 1);
    }
    const auto done = [&](auto row, auto end_row) DLCORE_LAMBDA {
      end<R, V, false, row, end_row>(acc, nullptr, 0, c, t.c_row, nullptr, false, W);
    };
    using From = Place<R, false, kPanel>;
    const auto at = [&](int64_t s, int64_t k) DLCORE_LAMBDA {
      return From(t.segments[s].a + i * t.a_tile + k, t.a_row, t.segments[s].b + k * kPanel);
    };
    const int64_t final = t.count - 1, before = t.segments[final].length - last_steps<R, V>(t.segments[final].length);
    for (int64_t s = 0; s < final; ++s) go_over<R, V, false, kPanel, 3>(acc, at(s, 0), t.segments[s].length);
    go_over<R, V, false, kPanel, 3>(acc, at(final, 0), before);
    if (before < t.segments[final].length)
      finish(acc, at(final, before), done);
    else
      done(Constant<0>(), Constant<R>());
  }
}

// Whether one stretch by a panel goes the unrolled way: so measured for the narrow tile.
constexpr bool kUnrolls = W == 8;

using TileFn = void (*)(const TileArgs&, int64_t, int);
struct RowTiles {
  TileFn one, one_partial, two, two_partial, four, eight;  // nullptr where the registers do not suffice
  void (*packed)(const PackedArgs&);
  void (*in_place)(const PackedArgs&);
  void (*wide)(const PackedArgs&);         // of kWide columns: a panel …
  void (*wide_vector)(const PackedArgs&);  // … or at least a vector: few rows leave registers for a panel's chains
  void (*brief)(const ShortArgs&);
};

template <int R>
constexpr RowTiles row_tiles() {
  RowTiles t{tile<R, 1, false>,
             tile<R, 1, true>,
             tile<R, 2, false>,
             tile<R, 2, true>,
             nullptr,
             nullptr,
             packed_tiles<R, true, kPanel>,
             packed_tiles<R, false, kPanel>,
             packed_tiles<R, false, kWide>,
             packed_tiles<R, false, kWide, (R >= 8 ? 1 : 2)>,
             short_tiles<R>};
#ifdef DLCORE_WIDE
  if constexpr (R <= 6) t.four = tile<R, 4, false>;
  if constexpr (R <= 3) t.eight = tile<R, 8, false>;
#else
  if constexpr (R <= 3) t.four = tile<R, 4, false>;
  if constexpr (R <= 1) t.eight = tile<R, 8, false>;
#endif
  return t;
}

constexpr RowTiles kTiles[kTileRows] = {
    row_tiles<1>(),  row_tiles<2>(),  row_tiles<3>(), row_tiles<4>(),  row_tiles<5>(),  row_tiles<6>(),
#ifdef DLCORE_WIDE
    row_tiles<7>(),  row_tiles<8>(),  row_tiles<9>(), row_tiles<10>(), row_tiles<11>(), row_tiles<12>(),
    row_tiles<13>(), row_tiles<14>(),
#endif
};

}  // namespace

int wide_panel(int rows) {
  const RowTiles& tiles = kTiles[rows - 1];
  return tiles.eight ? 8 * W : tiles.four ? 4 * W : 2 * W;
}

void run_tile(int rows, int64_t cols, const TileArgs& args) {
  const RowTiles& tiles = kTiles[rows - 1];
  if (kUnrolls && args.count == 1 && args.b_row == kPanel && cols == kPanel) {
    const Segment& all = *args.segments;
    const PackedArgs one{.a = all.a,
                         .b = all.b,
                         .k = all.length,
                         .from = args.accumulate ? args.c : nullptr,
                         .from_row = args.c_row,
                         .c = args.c,
                         .c_row = args.c_row,
                         .bias = args.bias,
                         .relu = args.relu,
                         .adds = args.adds,
                         .a_row = args.a_row};
    if (args.a_step == 1) return tiles.in_place(one);
    if (args.a_row == 1 && args.a_step == rows) return tiles.packed(one);
  }
  int64_t j = 0;
  if (tiles.eight)
    for (; cols - j >= 8 * W; j += 8 * W) tiles.eight(args, j, W);
  if (tiles.four)
    for (; cols - j >= 4 * W; j += 4 * W) tiles.four(args, j, W);
  for (; cols - j >= 2 * W; j += 2 * W) tiles.two(args, j, W);
  const int rest = static_cast<int>(cols - j);
  if (rest > W)
    tiles.two_partial(args, j, rest - W);
  else if (rest == W)
    tiles.one(args, j, W);
  else if (rest > 0)
    tiles.one_partial(args, j, rest);
}

void run_packed(int rows, const PackedArgs& args) { kTiles[rows - 1].packed(args); }

void run_in_place(int rows, const PackedArgs& args) { kTiles[rows - 1].in_place(args); }

void run_short(int rows, const ShortArgs& args) { kTiles[rows - 1].brief(args); }

void run_wide(int rows, int64_t cols, PackedArgs args) {
  const RowTiles& tiles = kTiles[rows - 1];
  for (; cols > 0; cols -= kPanel, args.b += kPanel, args.c += kPanel)
    (cols > W ? tiles.wide : tiles.wide_vector)(args);
}

void pack_transposed(const PackArgs& p) {
  for (int64_t r0 = 0; r0 < p.width; r0 += W) {
    const int64_t rows = p.rows - r0;
    const int lanes = p.width - r0 < W ? static_cast<int>(p.width - r0) : W;
    int64_t tap = 0, row = 0;
    for (int64_t q0 = 0; q0 < p.cols; q0 += W) {
      VF v[W];
      load_block(p.src + (rows > 0 ? r0 * p.row_stride : 0) + q0, p.row_stride, rows, p.cols - q0, v);
      transpose_registers(v);
      if (p.taps == 1 && lanes == W && p.cols - q0 >= W) {
        float* dst = p.dst + q0 * p.width + r0;
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(dst + i * p.width, v[i]);
        row += W;
        continue;
      }
      const int64_t n = p.cols - q0 < W ? p.cols - q0 : W;
      if (p.taps == 1 && p.width < W) {
        for (int64_t i = 0; i < n; ++i) store(p.dst + (q0 + i) * p.width, v[i]);
        continue;
      }
      for (int64_t i = 0; i < n; ++i) {
        store_partial(p.dst + (tap * p.tap_rows + row) * p.width + r0, v[i], lanes);
        if (++tap == p.taps) {
          tap = 0;
          ++row;
        }
      }
    }
  }
}

void transpose(const float* src, int64_t src_stride, int64_t rows, int64_t cols, float* dst, int64_t dst_stride) {
  for (int64_t r0 = 0; r0 < rows; r0 += W) {
    for (int64_t c0 = 0; c0 < cols; c0 += W) {
      VF v[W];
      load_block(src + r0 * src_stride + c0, src_stride, rows - r0, cols - c0, v);
      transpose_registers(v);
      float* out = dst + c0 * dst_stride + r0;
      if (rows - r0 >= W && cols - c0 >= W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(out + i * dst_stride, v[i]);
      } else {
        const int lanes = rows - r0 < W ? static_cast<int>(rows - r0) : W;
        const int64_t n = cols - c0 < W ? cols - c0 : W;
        for (int64_t i = 0; i < n; ++i) store_partial(out + i * dst_stride, v[i], lanes);
      }
    }
  }
}

}  // namespace dlcore::DLCORE_ISA
