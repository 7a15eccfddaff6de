// Connectionist temporal classification (Graves 2006) in logarithms. State s of a row's 2·S + 1 is label s/2 where s is
// odd, else blank; rows are independent, and there is one kernel for every processor.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/ref/rows.h"
#include "kernels/scalar.h"

namespace dlcore {

namespace {

using ref::for_float;

struct Ctc {
  int64_t steps, rows, classes, labels, blank;
  const char* op;
  int64_t states() const { return 2 * labels + 1; }
  int64_t cycles() const { return rows * steps * states() * 100; }
};

Ctc ctc_of(const KernelSpec& spec, size_t first, const char* op) {
  const Shape& x = spec.inputs[first].shape;
  return {x[0], x[1], x[2], spec.inputs[first + 1].shape[1], spec.attrs.integer("blank"), op};
}

template <class T>
constexpr T kNever = -std::numeric_limits<T>::infinity();

template <class T>
T log_sum(T a, T b, T c) {
  const T m = std::max(a, std::max(b, c));
  if (m == kNever<T>) return m;
  return m + scalar_log((scalar_exp(a - m) + scalar_exp(b - m)) + scalar_exp(c - m));
}

// One row of the batch, its lengths and labels checked.
template <class T>
struct Row {
  const Ctc& a;
  const T* x;  // step t at x + t·rows·classes
  const int64_t* labels;
  int64_t steps, states;

  Row(const Ctc& ctc, const RunArgs& args, int first, int64_t row)
      : a(ctc),
        x(static_cast<const T*>(args.in[first]) + row * ctc.classes),
        labels(static_cast<const int64_t*>(args.in[first + 1]) + row * ctc.labels),
        steps(length(args, first + 2, row, ctc.steps, "steps")),
        states(2 * length(args, first + 3, row, ctc.labels, "labels") + 1) {
    for (int64_t i = 0; i < states / 2; ++i)
      DLCORE_CHECK(labels[i] >= 0 && labels[i] < a.classes, Index, "[", a.op, "] label ", labels[i], " at ", i,
                   " of row ", row, " is outside [0, ", a.classes, ")");
  }

  int64_t length(const RunArgs& args, int input, int64_t row, int64_t most, const char* what) const {
    const int64_t n = static_cast<const int64_t*>(args.in[input])[row];
    DLCORE_CHECK(n >= 0 && n <= most, Index, "[", a.op, "] row ", row, " cannot have ", n, " ", what, " of ", most);
    return n;
  }

  int64_t label(int64_t s) const { return s % 2 ? labels[s / 2] : a.blank; }
  T at(int64_t t, int64_t s) const { return x[t * a.rows * a.classes + label(s)]; }
  // Whether the blank between two labels may be left out on the way from s - 2 to s.
  bool skips(int64_t s) const { return s >= 2 && label(s) != a.blank && label(s) != label(s - 2); }

  // The states' logarithms after step t, from those after the step before.
  void forward(int64_t t, const T* before, T* now) const {
    for (int64_t s = 0; s < states; ++s) {
      T sum = s < 2 ? T(0) : kNever<T>;
      if (t > 0) sum = log_sum(before[s], s >= 1 ? before[s - 1] : kNever<T>, skips(s) ? before[s - 2] : kNever<T>);
      now[s] = sum + at(t, s);
    }
  }
  // The same from the end: what is still to come from state s at step t, that step with it.
  void backward(int64_t t, const T* after, T* now) const {
    for (int64_t s = 0; s < states; ++s) {
      T sum = s >= states - 2 ? T(0) : kNever<T>;
      if (t < steps - 1)
        sum = log_sum(after[s], s + 1 < states ? after[s + 1] : kNever<T>,
                      s + 2 < states && skips(s + 2) ? after[s + 2] : kNever<T>);
      now[s] = sum + at(t, s);
    }
  }
  T loss(const T* last) const {
    if (steps == 0) return states == 1 ? T(0) : -kNever<T>;
    return -log_sum(last[states - 1], states >= 2 ? last[states - 2] : kNever<T>, kNever<T>);
  }
};

template <class T>
void ctc(const RunArgs& args, const Ctc& a) {
  parallel_for(a.rows, a.cycles(), [&](int64_t n) {
    const Row<T> row(a, args, 0, n);
    T* alpha = static_cast<T*>(args.workspace) + 2 * n * a.states();
    for (int64_t t = 0; t < row.steps; ++t)
      row.forward(t, alpha + (t + 1) % 2 * a.states(), alpha + t % 2 * a.states());
    static_cast<T*>(args.out[0])[n] = row.loss(alpha + (row.steps + 1) % 2 * a.states());
  });
}

// d(loss)/d(log_probs) is minus the chance, given the labels, of being in one of the class's states.
template <class T>
void ctc_backward(const RunArgs& args, const Ctc& a) {
  parallel_for(a.rows, 3 * a.cycles(), [&](int64_t n) {
    const Row<T> row(a, args, 1, n);
    const T dloss = static_cast<const T*>(args.in[0])[n];
    T* dx = static_cast<T*>(args.out[0]) + n * a.classes;
    const int64_t step = a.rows * a.classes, states = a.states();
    T* alpha = static_cast<T*>(args.workspace) + n * (a.steps + 2) * states;
    T* beta = alpha + a.steps * states;
    for (int64_t t = 0; t < row.steps; ++t) row.forward(t, alpha + (t - (t > 0)) * states, alpha + t * states);
    const T loss = row.loss(alpha + (row.steps - (row.steps > 0)) * states);
    const bool possible = loss < -kNever<T>;
    const T nothing = possible || dloss == T(0) ? T(0) : std::numeric_limits<T>::quiet_NaN();
    for (int64_t t = 0; t < a.steps; ++t)
      for (int64_t c = 0; c < a.classes; ++c) dx[t * step + c] = t < row.steps ? nothing : T(0);
    for (int64_t t = row.steps - 1; t >= 0 && possible; --t) {
      T* now = beta + t % 2 * states;
      row.backward(t, beta + (t + 1) % 2 * states, now);
      for (int64_t s = 0; s < row.states; ++s) {
        const T both = alpha[t * states + s] + now[s];
        if (both > kNever<T>) dx[t * step + row.label(s)] -= dloss * scalar_exp((both - row.at(t, s)) + loss);
      }
    }
  });
}

BoundKernel bind_ctc(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Ctc a = ctc_of(spec, 0, "ctc");
    return {[=](const RunArgs& args) { ctc<T>(args, a); }, static_cast<size_t>(2 * a.rows * a.states()) * sizeof(T)};
  });
}

BoundKernel bind_ctc_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Ctc a = ctc_of(spec, 1, "ctc_backward");
    return {[=](const RunArgs& args) { ctc_backward<T>(args, a); },
            static_cast<size_t>(a.rows * (a.steps + 2) * a.states()) * sizeof(T)};
  });
}

}  // namespace

void register_ref_ctc(Registry& r) {
  r.add("ref", 0, "ctc", bind_ctc);
  r.add("ref", 0, "ctc_backward", bind_ctc_backward);
}

}  // namespace dlcore
