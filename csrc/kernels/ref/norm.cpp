#include <algorithm>
#include <vector>

#include "kernels/ref/rows.h"

namespace dlcore {

namespace {

using namespace ref;

template <class T>
void layer_norm(const RunArgs& args, int64_t rows, int64_t width, T eps) {
  const T *x = input<T>(args, 0), *gamma = input<T>(args, 1), *beta = input<T>(args, 2);
  T *y = output<T>(args, 0), *means = output<T>(args, 1), *rstds = output<T>(args, 2);
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    Lanes16<T> sum, squares;
    for (int64_t i = 0; i < width; ++i) sum.add(i, x[i]);
    const T mean = sum.sum() / T(width);
    for (int64_t i = 0; i < width; ++i) squares.fma(i, x[i] - mean, x[i] - mean);
    const T rstd = T(1) / std::sqrt(squares.sum() / T(width) + eps);
    for (int64_t i = 0; i < width; ++i) y[i] = std::fma((x[i] - mean) * rstd, gamma[i], beta[i]);
    means[r] = mean;
    rstds[r] = rstd;
  }
}

template <class T>
void layer_norm_backward(const RunArgs& args, int64_t rows, int64_t width) {
  const T *dy = input<T>(args, 0), *x = input<T>(args, 1), *gamma = input<T>(args, 2);
  const T *mean = input<T>(args, 3), *rstd = input<T>(args, 4);
  T *dx = output<T>(args, 0), *dgamma = output<T>(args, 1), *dbeta = output<T>(args, 2);
  for (int64_t i = 0; i < width; ++i) {
    Blocks512<T> gamma_sum, beta_sum;
    for (int64_t r = 0; r < rows; ++r) {
      const T d = dy[r * width + i];
      gamma_sum.fma(d, (x[r * width + i] - mean[r]) * rstd[r]);
      beta_sum.add(d);
    }
    dgamma[i] = gamma_sum.sum();
    dbeta[i] = beta_sum.sum();
  }
  for (int64_t r = 0; r < rows; ++r, x += width, dy += width, dx += width) {
    Lanes16<T> g_sum, gh_sum;
    for (int64_t i = 0; i < width; ++i) {
      const T g = dy[i] * gamma[i];
      g_sum.add(i, g);
      gh_sum.fma(i, g, (x[i] - mean[r]) * rstd[r]);
    }
    const T a = g_sum.sum() / T(width), b = gh_sum.sum() / T(width);
    for (int64_t i = 0; i < width; ++i) {
      const T h = (x[i] - mean[r]) * rstd[r];
      dx[i] = rstd[r] * ((dy[i] * gamma[i] - a) - h * b);
    }
  }
}

template <class T>
void rms_norm(const RunArgs& args, int64_t rows, int64_t width, T eps) {
  const T *x = input<T>(args, 0), *gamma = input<T>(args, 1);
  T *y = output<T>(args, 0), *rstds = output<T>(args, 1);
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    Lanes16<T> squares;
    for (int64_t i = 0; i < width; ++i) squares.fma(i, x[i], x[i]);
    const T rstd = T(1) / std::sqrt(squares.sum() / T(width) + eps);
    for (int64_t i = 0; i < width; ++i) y[i] = (x[i] * rstd) * gamma[i];
    rstds[r] = rstd;
  }
}

template <class T>
void rms_norm_backward(const RunArgs& args, int64_t rows, int64_t width) {
  const T *dy = input<T>(args, 0), *x = input<T>(args, 1), *gamma = input<T>(args, 2), *rstd = input<T>(args, 3);
  T *dx = output<T>(args, 0), *dgamma = output<T>(args, 1);
  for (int64_t i = 0; i < width; ++i) {
    Blocks512<T> sum;
    for (int64_t r = 0; r < rows; ++r) sum.fma(dy[r * width + i], x[r * width + i] * rstd[r]);
    dgamma[i] = sum.sum();
  }
  for (int64_t r = 0; r < rows; ++r, x += width, dy += width, dx += width) {
    Lanes16<T> sum;
    for (int64_t i = 0; i < width; ++i) sum.fma(i, dy[i] * gamma[i], x[i] * rstd[r]);
    const T mean = sum.sum() / T(width);
    for (int64_t i = 0; i < width; ++i) dx[i] = rstd[r] * (dy[i] * gamma[i] - (x[i] * rstd[r]) * mean);
  }
}

struct Channels {  // a tensor as outer x channels x inner
  int64_t outer, channels, inner;
};

Channels channels_of(const Shape& shape, const Attrs& attrs, const char* op) {
  const size_t axis = static_cast<size_t>(normalize_axis(attrs.integer("axis"), static_cast<int>(shape.size()), op));
  return {product(shape, 0, axis), shape[axis], product(shape, axis + 1, shape.size())};
}

// f(index) for the elements of channel c, in ascending order.
template <class F>
void each(const Channels& s, int64_t c, F f) {
  for (int64_t o = 0; o < s.outer; ++o)
    for (int64_t i = 0; i < s.inner; ++i) f((o * s.channels + c) * s.inner + i);
}

// The sum of squares of x - mean, by those of x - center, a block's own mean: (d + e)² = d² + 2 e d + e².
template <class T>
T squares(const Channels& s, int64_t c, const T* x, T mean) {
  std::vector<T> values;
  each(s, c, [&](int64_t i) { values.push_back(x[i]); });
  T all = 0;
  for (size_t from = 0; from < values.size(); from += 512) {
    const size_t to = std::min(values.size(), from + 512);
    T sum = 0, squared = 0, plain = 0;
    for (size_t i = from; i < to; ++i) sum += values[i];
    const T count = T(to - from), center = sum / count, e = center - mean;
    for (size_t i = from; i < to; ++i) {
      const T d = values[i] - center;
      squared = std::fma(d, d, squared);
      plain += d;
    }
    const T block = std::fma(count * e, e, std::fma(2 * e, plain, squared));
    all = from == 0 ? block : all + block;
  }
  return all < 0 ? T(0) : all;  // where rounding is all there is
}

template <class T>
void batch_norm(const RunArgs& args, const Channels& s, T eps) {
  const T *x = input<T>(args, 0), *gamma = input<T>(args, 1), *beta = input<T>(args, 2);
  T *y = output<T>(args, 0), *means = output<T>(args, 1), *vars = output<T>(args, 2);
  const T n = T(s.outer * s.inner);
  for (int64_t c = 0; c < s.channels; ++c) {
    Blocks512<T> sum;
    each(s, c, [&](int64_t i) { sum.add(x[i]); });
    const T mean = sum.sum() / n, var = squares(s, c, x, mean) / n, rstd = T(1) / std::sqrt(var + eps);
    each(s, c, [&](int64_t i) { y[i] = std::fma((x[i] - mean) * rstd, gamma[c], beta[c]); });
    means[c] = mean;
    vars[c] = var;
  }
}

template <class T>
void batch_norm_backward(const RunArgs& args, const Channels& s, T eps) {
  const T *dy = input<T>(args, 0), *x = input<T>(args, 1), *gamma = input<T>(args, 2);
  const T *means = input<T>(args, 3), *vars = input<T>(args, 4);
  T *dx = output<T>(args, 0), *dgamma = output<T>(args, 1), *dbeta = output<T>(args, 2);
  const T n = T(s.outer * s.inner);
  for (int64_t c = 0; c < s.channels; ++c) {
    const T mean = means[c], rstd = T(1) / std::sqrt(vars[c] + eps);
    Blocks512<T> gamma_sum, beta_sum;
    each(s, c, [&](int64_t i) {
      gamma_sum.fma(dy[i], (x[i] - mean) * rstd);
      beta_sum.add(dy[i]);
    });
    dgamma[c] = gamma_sum.sum();
    dbeta[c] = beta_sum.sum();
    const T a = dbeta[c] / n, b = dgamma[c] / n, factor = gamma[c] * rstd;
    each(s, c, [&](int64_t i) { dx[i] = factor * ((dy[i] - a) - ((x[i] - mean) * rstd) * b); });
  }
}

struct Rows {
  int64_t rows, width;
};
Rows rows_of(const Shape& shape, const Attrs& attrs) {
  const size_t lead = shape.size() - static_cast<size_t>(attrs.integer("dims"));
  return {product(shape, 0, lead), product(shape, lead, shape.size())};
}

BoundKernel bind_layer_norm(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Rows s = rows_of(spec.inputs[0].shape, spec.attrs);
    const T eps = static_cast<T>(spec.attrs.real("eps"));
    return {[=](const RunArgs& args) { layer_norm<T>(args, s.rows, s.width, eps); }};
  });
}

BoundKernel bind_layer_norm_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Rows s = rows_of(spec.inputs[0].shape, spec.attrs);
    return {[=](const RunArgs& args) { layer_norm_backward<T>(args, s.rows, s.width); }};
  });
}

BoundKernel bind_rms_norm(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Rows s = rows_of(spec.inputs[0].shape, spec.attrs);
    const T eps = static_cast<T>(spec.attrs.real("eps"));
    return {[=](const RunArgs& args) { rms_norm<T>(args, s.rows, s.width, eps); }};
  });
}

BoundKernel bind_rms_norm_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Rows s = rows_of(spec.inputs[0].shape, spec.attrs);
    return {[=](const RunArgs& args) { rms_norm_backward<T>(args, s.rows, s.width); }};
  });
}

BoundKernel bind_batch_norm(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Channels s = channels_of(spec.inputs[0].shape, spec.attrs, "batch_norm");
    const T eps = static_cast<T>(spec.attrs.real("eps"));
    return {[=](const RunArgs& args) { batch_norm<T>(args, s, eps); }};
  });
}

BoundKernel bind_batch_norm_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const Channels s = channels_of(spec.inputs[0].shape, spec.attrs, "batch_norm_backward");
    const T eps = static_cast<T>(spec.attrs.real("eps"));
    return {[=](const RunArgs& args) { batch_norm_backward<T>(args, s, eps); }};
  });
}

}  // namespace

void register_ref_norm(Registry& r) {
  r.add("ref", 0, "layer_norm", bind_layer_norm);
  r.add("ref", 0, "layer_norm_backward", bind_layer_norm_backward);
  r.add("ref", 0, "rms_norm", bind_rms_norm);
  r.add("ref", 0, "rms_norm_backward", bind_rms_norm_backward);
  r.add("ref", 0, "batch_norm", bind_batch_norm);
  r.add("ref", 0, "batch_norm_backward", bind_batch_norm_backward);
}

}  // namespace dlcore
