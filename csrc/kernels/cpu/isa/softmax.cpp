// Softmax and cross-entropy along rows, in 16 lanes; a row's tail is a masked vector, so that ten classes are one
// vector.
#include "kernels/cpu/softmax.h"

#include "base/parallel.h"
#include "kernels/cpu/lanes.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int64_t kChunkElements = 8192;
constexpr float kInfinity = __builtin_inff();
// Forward, exponents are less their largest: quick_exp's domain. Backward they are what the caller says.

DLCORE_INLINE float log1(float x) { return log(splat(x))[0]; }

// f(i, n): vectors of n = 16 elements from i on, then of what is left. `f` sees the constant 16 in the loop.
template <class F>
DLCORE_INLINE void each_vector(int64_t width, F f) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) f(i, kLanes);
  if (i < width) f(i, (int)(width - i));
}
DLCORE_INLINE Lanes get(const float* p, int n) { return n == kLanes ? load16(p) : load16(p, n); }
DLCORE_INLINE void put(float* p, const Lanes& a, int n) { n == kLanes ? store16(p, a) : store16(p, a, n); }
DLCORE_INLINE Lanes only(int n, const Lanes& a) { return n == kLanes ? a : first_of(n, a, zero_lanes()); }

// Calls f(first row, row after the last) for chunks of rows.
template <class F>
void for_rows(int64_t rows, int64_t width, int64_t cycles_an_element, F f) {
  int64_t step = kChunkElements / (width > 0 ? width : 1);
  if (step < 1) step = 1;
  auto body = [&](int64_t chunk) {
    const int64_t from = chunk * step, to = from + step;
    f(from, to < rows ? to : rows);
  };
  parallel_for((rows + step - 1) / step, rows * (width + 16) * cycles_an_element, body);
}

// The greatest element; 0 for a row of -inf alone, whose exponentials are then all 0 and not NaN.
DLCORE_INLINE float row_max(const float* x, int64_t width) {
  Lanes m = splat16(-kInfinity), m2 = m;
  int64_t i = 0;
  for (; i + 2 * kLanes <= width; i += 2 * kLanes) {
    m = larger(load16(x + i), m);
    m2 = larger(load16(x + i + kLanes), m2);
  }
  if (i + kLanes <= width) {
    m = larger(load16(x + i), m);
    i += kLanes;
  }
  if (i < width) m2 = larger(first_of((int)(width - i), load16(x + i, (int)(width - i)), m2), m2);
  return max_lane(larger(m, m2));
}
DLCORE_INLINE float finite_max(float m) { return m == -kInfinity ? 0.0f : m; }

DLCORE_INLINE float exp_sum(const float* x, int64_t width, const Lanes& m) {
  Lanes sum = zero_lanes();
  each_vector(
      width, [&](int64_t i, int n)
                 __attribute__((always_inline)) { sum = sum + only(n, quick_exp(get(x + i, n) - m)); });
  return tree_sum(sum);
}

// A row of at most 16 elements stays in registers.
DLCORE_INLINE void softmax_short(const float* x, float* y, int width) {
  const Lanes v = load16(x, width);
  const float m = finite_max(max_lane(first_of(width, v, splat16(-kInfinity))));
  const Lanes e = first_of(width, quick_exp(v - splat16(m)), zero_lanes());
  const float l = tree_sum(e);
  store16(y, e * splat16(l == 0.0f ? 0.0f : 1.0f / l), width);
}

void softmax(const RowsArgs& a) {
  for_rows(a.rows, a.width, 2, [&](int64_t row, int64_t end) {
    const int64_t width = a.width;
    if (width <= kLanes) {
      for (; row < end; ++row) softmax_short(a.x + row * width, a.out + row * width, (int)width);
      return;
    }
    for (; row < end; ++row) {
      const float* x = a.x + row * width;
      float* y = a.out + row * width;
      const Lanes m = splat16(finite_max(row_max(x, width)));
      Lanes sum = zero_lanes();
      each_vector(
          width, [&](int64_t i, int n) __attribute__((always_inline)) {
            const Lanes e = only(n, quick_exp(get(x + i, n) - m));
            sum = sum + e;
            put(y + i, e, n);
          });
      const float l = tree_sum(sum);
      const Lanes inverse = splat16(l == 0.0f ? 0.0f : 1.0f / l);
      each_vector(
          width, [&](int64_t i, int n) __attribute__((always_inline)) { put(y + i, get(y + i, n) * inverse, n); });
    }
  });
}

// R rows at once: each has to wait for its maximum, and for its sum, while the others go on.
template <int R>
DLCORE_INLINE void log_softmax_rows(const float* x, float* y, int64_t width) {
  Lanes m[R], sum[R], log_sum[R];
  for (int r = 0; r < R; ++r) {
    m[r] = splat16(finite_max(row_max(x + r * width, width)));
    sum[r] = zero_lanes();
  }
  each_vector(
      width, [&](int64_t i, int n) __attribute__((always_inline)) {
        for (int r = 0; r < R; ++r) sum[r] = sum[r] + only(n, quick_exp(get(x + r * width + i, n) - m[r]));
      });
  for (int r = 0; r < R; ++r) {
    const float l = tree_sum(sum[r]);
    log_sum[r] = splat16(l == 0.0f ? 0.0f : log1(l));
  }
  for (int r = 0; r < R; ++r, x += width, y += width)
    each_vector(
        width, [&](int64_t i, int n)
                   __attribute__((always_inline)) { put(y + i, (get(x + i, n) - m[r]) - log_sum[r], n); });
}

// Past the caches, between the arithmetic: a burst of such stores would wait for memory. So each row is written while
// the next one's exponentials are made. Its bits are the other way's.
void log_softmax_past(const RowsArgs& a, int64_t row, int64_t end) {
  struct {
    const float* x;
    float* y;
    Lanes m, log_sum;
    DLCORE_INLINE void write(int64_t i) const { write16(y + i, (load16(x + i) - m) - log_sum, true); }
  } before = {};
  const int64_t width = a.width, first = row;
  for (; row < end; ++row) {
    const float* x = a.x + row * width;
    const Lanes m = splat16(finite_max(row_max(x, width)));
    Lanes sum = zero_lanes();
    const auto go = [&]<bool Writes>() DLCORE_LAMBDA {
      for (int64_t i = 0; i < width; i += kLanes) {
        sum = sum + quick_exp(load16(x + i) - m);
        if constexpr (Writes) before.write(i);
      }
    };
    row == first ? go.template operator()<false>() : go.template operator()<true>();
    const float l = tree_sum(sum);
    before = {x, a.out + row * width, m, splat16(l == 0.0f ? 0.0f : log1(l))};
  }
  for (int64_t i = 0; i < width && first < end; i += kLanes) before.write(i);
  end_past();
}

void log_softmax(const RowsArgs& a) {
  for_rows(a.rows, a.width, 2, [&](int64_t row, int64_t end) {
    const int64_t width = a.width;
    if (a.past) return log_softmax_past(a, row, end);
    for (; row + 2 <= end; row += 2) log_softmax_rows<2>(a.x + row * width, a.out + row * width, width);
    if (row < end) log_softmax_rows<1>(a.x + row * width, a.out + row * width, width);
  });
}

void softmax_backward(const RowsArgs& a) {
  for_rows(a.rows, a.width, 1, [&](int64_t row, int64_t end) {
    const int64_t width = a.width;
    for (; row < end; ++row) {
      const float *y = a.x + row * width, *dy = a.dy + row * width;
      float* dx = a.out + row * width;
      Lanes sum = zero_lanes();
      each_vector(
          width, [&](int64_t i, int n)
                     __attribute__((always_inline)) { sum = fma(get(dy + i, n), get(y + i, n), sum); });
      const Lanes s = splat16(tree_sum(sum));
      each_vector(
          width, [&](int64_t i, int n)
                     __attribute__((always_inline)) { put(dx + i, get(y + i, n) * (get(dy + i, n) - s), n); });
    }
  });
}

void log_softmax_backward(const RowsArgs& a) {
  for_rows(a.rows, a.width, 2, [&](int64_t row, int64_t end) {
    const int64_t width = a.width;
    for (; row < end; ++row) {
      const float *y = a.x + row * width, *dy = a.dy + row * width;
      float* dx = a.out + row * width;
      Lanes sum = zero_lanes();
      each_vector(
          width, [&](int64_t i, int n) __attribute__((always_inline)) { sum = sum + get(dy + i, n); });
      const Lanes s = splat16(tree_sum(sum));
      each_vector(
          width, [&](int64_t i, int n)
                     __attribute__((always_inline)) { put(dx + i, get(dy + i, n) - exp(get(y + i, n)) * s, n); });
    }
  });
}

void cross_entropy(const CrossEntropyArgs& a) {
  for_rows(a.rows, a.classes, 2, [&](int64_t from, int64_t end) {
    const int64_t classes = a.classes;
    const float s = a.smoothing;
    for (int64_t row = from; row < end; ++row) {
      const float* x = a.x + row * classes;
      const float m = finite_max(row_max(x, classes));
      a.out[row] = m;
      a.lse_out[row] = exp_sum(x, classes, splat16(m));
    }
    // The logarithms of many rows at once.
    for (int64_t row = from; row < end; row += W) {
      const int n = end - row < W ? (int)(end - row) : W;
      const VF l = load_partial(a.lse_out + row, n);
      const VF lse = load_partial(a.out + row, n) + log(l);
      store_partial(a.lse_out + row, select(l == VF{}, splat(-kInfinity), lse), n);
    }
    for (int64_t row = from; row < end; ++row) {
      const int64_t label = a.labels[row];
      const float* x = a.x + row * classes;
      const float lse = a.lse_out[row];
      float loss = 0.0f;
      if (!(a.ignores && label == a.ignore_index)) {
        loss = lse - x[label];
        if (s != 0.0f) {
          Lanes sum = zero_lanes();
          each_vector(
              classes, [&](int64_t i, int n) __attribute__((always_inline)) { sum = sum + get(x + i, n); });
          loss = (1.0f - s) * loss + s * (lse - tree_sum(sum) / (float)classes);
        }
      }
      a.out[row] = loss;
    }
  });
}

void cross_entropy_backward(const CrossEntropyArgs& a) {
  for_rows(a.rows, a.classes, 2, [&](int64_t row, int64_t end) {
    const int64_t classes = a.classes;
    const float rest = a.smoothing / (float)classes, hit = (1.0f - a.smoothing) + rest;
    for (; row < end; ++row) {
      const float* x = a.x + row * classes;
      float* dx = a.out + row * classes;
      const int64_t label = a.labels[row];
      if (a.ignores && label == a.ignore_index) {
        for (int64_t i = 0; i < classes; ++i) dx[i] = 0.0f;
        continue;
      }
      const Lanes lse = splat16(a.lse[row]), q = splat16(rest), d = splat16(a.dloss[row]);
      // The label's element again, with its own q; x may be dx.
      const float at_label = (exp(splat(x[label] - a.lse[row]))[0] - hit) * a.dloss[row];
      each_vector(
          classes, [&](int64_t i, int n)
                       __attribute__((always_inline)) { put(dx + i, (exp(get(x + i, n) - lse) - q) * d, n); });
      dx[label] = at_label;
    }
  });
}

}  // namespace

const SoftmaxTable softmax_table = {softmax,       log_softmax,           softmax_backward, log_softmax_backward,
                                    cross_entropy, cross_entropy_backward};

}  // namespace dlcore::DLCORE_ISA
