// group_norm as docs/ops.md says it.
#include "kernels/ref/rows.h"

namespace dlcore {

void register_ref_group_norm(Registry& registry);

namespace {

using namespace ref;

struct Groups {
  int64_t images, groups, channels, rest;  // channels of a group, elements of a channel
  explicit Groups(const KernelSpec& spec) {
    const Shape& shape = spec.inputs[0].shape;
    images = shape[0];
    groups = spec.attrs.integer("groups");
    channels = shape[1] / groups;
    rest = product(shape, 2, shape.size());
  }
};

template <class T>
void group_norm(const RunArgs& args, const Groups& s, T eps) {
  const T *x = input<T>(args, 0), *gamma = input<T>(args, 1), *beta = input<T>(args, 2);
  T *y = output<T>(args, 0), *means = output<T>(args, 1), *rstds = output<T>(args, 2);
  const int64_t size = s.channels * s.rest;
  for (int64_t i = 0; i < s.images * s.groups; ++i, x += size, y += size) {
    Lanes16<T> sum, squares;
    for (int64_t k = 0; k < size; ++k) sum.add(k, x[k]);
    const T mean = sum.sum() / T(size);
    for (int64_t k = 0; k < size; ++k) squares.fma(k, x[k] - mean, x[k] - mean);
    const T rstd = T(1) / std::sqrt(squares.sum() / T(size) + eps);
    for (int64_t k = 0; k < size; ++k) {
      const int64_t c = i % s.groups * s.channels + k / s.rest;
      y[k] = std::fma((x[k] - mean) * rstd, gamma[c], beta[c]);
    }
    means[i] = mean;
    rstds[i] = rstd;
  }
}

template <class T>
void group_norm_backward(const RunArgs& args, const Groups& s) {
  const T *dy = input<T>(args, 0), *x = input<T>(args, 1), *gamma = input<T>(args, 2);
  const T *means = input<T>(args, 3), *rstds = input<T>(args, 4);
  T *dx = output<T>(args, 0), *dgamma = output<T>(args, 1), *dbeta = output<T>(args, 2);
  for (int64_t c = 0; c < s.groups * s.channels; ++c) dgamma[c] = dbeta[c] = T(0);
  for (int64_t i = 0; i < s.images * s.groups; ++i) {
    const T mean = means[i], rstd = rstds[i];
    T a = 0, b = 0;
    for (int64_t k = 0; k < s.channels; ++k) {
      const int64_t c = i % s.groups * s.channels + k, at = (i * s.channels + k) * s.rest;
      Lanes16<T> sum, product;
      for (int64_t e = 0; e < s.rest; ++e) {
        sum.add(e, dy[at + e]);
        product.fma(e, dy[at + e], (x[at + e] - mean) * rstd);
      }
      const T own_sum = sum.sum(), own_product = product.sum();
      dbeta[c] = i < s.groups ? own_sum : dbeta[c] + own_sum;
      dgamma[c] = i < s.groups ? own_product : dgamma[c] + own_product;
      a = std::fma(gamma[c], own_sum, a);
      b = std::fma(gamma[c], own_product, b);
    }
    a /= T(s.channels * s.rest);
    b /= T(s.channels * s.rest);
    for (int64_t k = 0; k < s.channels * s.rest; ++k) {
      const int64_t at = i * s.channels * s.rest + k;
      const T g = dy[at] * gamma[i % s.groups * s.channels + k / s.rest], h = (x[at] - mean) * rstd;
      dx[at] = rstd * ((g - a) - h * b);
    }
  }
}

BoundKernel bind_group_norm(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    const T eps = static_cast<T>(spec.attrs.real("eps"));
    return {[s = Groups(spec), eps](const RunArgs& args) { group_norm<T>(args, s, eps); }};
  });
}

BoundKernel bind_group_norm_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    return {[s = Groups(spec)](const RunArgs& args) { group_norm_backward<T>(args, s); }};
  });
}

}  // namespace

void register_ref_group_norm(Registry& r) {
  r.add("ref", 0, "group_norm", bind_group_norm);
  r.add("ref", 0, "group_norm_backward", bind_group_norm_backward);
}

}  // namespace dlcore
