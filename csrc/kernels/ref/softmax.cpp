#include <limits>

#include "base/error.h"
#include "kernels/ref/rows.h"
#include "kernels/scalar.h"

namespace dlcore {

namespace {

using namespace ref;

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

// The greatest element; 0 for a row of -inf alone, whose exponentials are then all 0 and not NaN.
template <class T>
T row_max(const T* x, int64_t width) {
  T m = -kInfinity<T>;
  for (int64_t i = 0; i < width; ++i) m = x[i] > m ? x[i] : m;
  return m == -kInfinity<T> ? T(0) : m;
}

template <class T>
T exp_sum(const T* x, int64_t width, T m) {
  Lanes16<T> sum;
  for (int64_t i = 0; i < width; ++i) sum.add(i, scalar_quick_exp(x[i] - m));
  return sum.sum();
}

template <class T>
void softmax(const RunArgs& args, int64_t rows, int64_t width) {
  const T* x = input<T>(args, 0);
  T* y = output<T>(args, 0);
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    const T m = row_max(x, width), l = exp_sum(x, width, m), inverse = l == T(0) ? T(0) : T(1) / l;
    for (int64_t i = 0; i < width; ++i) y[i] = scalar_quick_exp(x[i] - m) * inverse;
  }
}

template <class T>
void log_softmax(const RunArgs& args, int64_t rows, int64_t width) {
  const T* x = input<T>(args, 0);
  T* y = output<T>(args, 0);
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    const T m = row_max(x, width), l = exp_sum(x, width, m), log_sum = l == T(0) ? T(0) : scalar_log(l);
    for (int64_t i = 0; i < width; ++i) y[i] = (x[i] - m) - log_sum;
  }
}

template <class T>
void softmax_backward(const RunArgs& args, int64_t rows, int64_t width) {
  const T *y = input<T>(args, 0), *dy = input<T>(args, 1);
  T* dx = output<T>(args, 0);
  for (int64_t r = 0; r < rows; ++r, y += width, dy += width, dx += width) {
    Lanes16<T> sum;
    for (int64_t i = 0; i < width; ++i) sum.fma(i, dy[i], y[i]);
    const T s = sum.sum();
    for (int64_t i = 0; i < width; ++i) dx[i] = y[i] * (dy[i] - s);
  }
}

template <class T>
void log_softmax_backward(const RunArgs& args, int64_t rows, int64_t width) {
  const T *y = input<T>(args, 0), *dy = input<T>(args, 1);
  T* dx = output<T>(args, 0);
  for (int64_t r = 0; r < rows; ++r, y += width, dy += width, dx += width) {
    Lanes16<T> sum;
    for (int64_t i = 0; i < width; ++i) sum.add(i, dy[i]);
    const T s = sum.sum();
    for (int64_t i = 0; i < width; ++i) dx[i] = dy[i] - scalar_exp(y[i]) * s;
  }
}

struct CrossEntropy {
  int64_t rows, classes;
  double smoothing;
  bool ignores;
  int64_t ignore_index;
  const char* op;

  bool ignored(int64_t label, int64_t row) const {
    if (ignores && label == ignore_index) return true;
    DLCORE_CHECK(label >= 0 && label < classes, Index, "[", op, "] label ", label, " of row ", row, " is outside [0, ",
                 classes, ")");
    return false;
  }
};

CrossEntropy cross_entropy_of(const KernelSpec& spec, const char* op) {
  const Shape& shape = spec.inputs[0].shape;
  return {shape[0],
          shape[1],
          spec.attrs.real_or("label_smoothing", 0.0),
          spec.attrs.has("ignore_index"),
          spec.attrs.integer_or("ignore_index", 0),
          op};
}

template <class T>
void cross_entropy(const RunArgs& args, const CrossEntropy& a) {
  const T* x = input<T>(args, 0);
  const int64_t* labels = input<int64_t>(args, 1);
  T *losses = output<T>(args, 0), *lses = output<T>(args, 1);
  const T s = static_cast<T>(a.smoothing);
  for (int64_t r = 0; r < a.rows; ++r, x += a.classes) {
    const bool ignored = a.ignored(labels[r], r);
    const T m = row_max(x, a.classes), l = exp_sum(x, a.classes, m);
    const T lse = l == T(0) ? -kInfinity<T> : m + scalar_log(l);
    T loss = T(0);
    if (!ignored) {
      loss = lse - x[labels[r]];
      if (s != T(0)) {
        Lanes16<T> sum;
        for (int64_t i = 0; i < a.classes; ++i) sum.add(i, x[i]);
        loss = (T(1) - s) * loss + s * (lse - sum.sum() / T(a.classes));
      }
    }
    losses[r] = loss;
    lses[r] = lse;
  }
}

template <class T>
void cross_entropy_backward(const RunArgs& args, const CrossEntropy& a) {
  const T* x = input<T>(args, 0);
  const int64_t* labels = input<int64_t>(args, 1);
  const T *lse = input<T>(args, 2), *dloss = input<T>(args, 3);
  T* dx = output<T>(args, 0);
  const T s = static_cast<T>(a.smoothing), rest = s / T(a.classes), hit = (T(1) - s) + rest;
  for (int64_t r = 0; r < a.rows; ++r, x += a.classes, dx += a.classes) {
    const bool ignored = a.ignored(labels[r], r);
    for (int64_t i = 0; i < a.classes; ++i)
      dx[i] = ignored ? T(0) : (scalar_exp(x[i] - lse[r]) - (i == labels[r] ? hit : rest)) * dloss[r];
  }
}

// A kernel of rows along the last axis.
template <template <class> class Kernel>
BoundKernel bind_rows(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    const Shape& shape = spec.inputs[0].shape;
    const int64_t width = last_size(shape), rows = product(shape, 0, shape.empty() ? 0 : shape.size() - 1);
    return {[=](const RunArgs& args) { Kernel<decltype(zero)>::run(args, rows, width); }};
  });
}

#define ROW_KERNEL(Name, function)                                                                        \
  template <class T>                                                                                      \
  struct Name {                                                                                           \
    static void run(const RunArgs& args, int64_t rows, int64_t width) { function<T>(args, rows, width); } \
  };
ROW_KERNEL(Softmax, softmax)
ROW_KERNEL(LogSoftmax, log_softmax)
ROW_KERNEL(SoftmaxBackward, softmax_backward)
ROW_KERNEL(LogSoftmaxBackward, log_softmax_backward)
#undef ROW_KERNEL

BoundKernel bind_cross_entropy(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    const CrossEntropy a = cross_entropy_of(spec, "cross_entropy");
    return {[=](const RunArgs& args) { cross_entropy<decltype(zero)>(args, a); }};
  });
}

BoundKernel bind_cross_entropy_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    const CrossEntropy a = cross_entropy_of(spec, "cross_entropy_backward");
    return {[=](const RunArgs& args) { cross_entropy_backward<decltype(zero)>(args, a); }};
  });
}

}  // namespace

void register_ref_softmax(Registry& r) {
  r.add("ref", 0, "softmax", bind_rows<Softmax>);
  r.add("ref", 0, "log_softmax", bind_rows<LogSoftmax>);
  r.add("ref", 0, "softmax_backward", bind_rows<SoftmaxBackward>);
  r.add("ref", 0, "log_softmax_backward", bind_rows<LogSoftmaxBackward>);
  r.add("ref", 0, "cross_entropy", bind_cross_entropy);
  r.add("ref", 0, "cross_entropy_backward", bind_cross_entropy_backward);
}

}  // namespace dlcore
