// The optimizers' updates, one parameter at a time (docs/ops.md).
#include "kernels/optim_spec.h"
#include "kernels/ref/rows.h"

namespace dlcore {

namespace {

using namespace ref;

template <class T>
void sgd_plain(const RunArgs& args, int64_t n, const OptimSpec& s) {
  const T *p = input<T>(args, 0), *g = input<T>(args, 1);
  const T lr = *input<T>(args, 2), wd = static_cast<T>(s.weight_decay);
  T* out = output<T>(args, 0);
  for (int64_t i = 0; i < n; ++i) out[i] = std::fma(-lr, std::fma(wd, p[i], g[i]), p[i]);
}

template <class T>
void sgd(const RunArgs& args, int64_t n, const OptimSpec& s) {
  const T *p = input<T>(args, 0), *g = input<T>(args, 1), *m = input<T>(args, 2);
  const T lr = *input<T>(args, 3), wd = static_cast<T>(s.weight_decay), momentum = static_cast<T>(s.momentum);
  const T rest = static_cast<T>(1 - s.dampening);
  const bool first = *input<int64_t>(args, 4) == 1;
  T *p_out = output<T>(args, 0), *m_out = output<T>(args, 1);
  for (int64_t i = 0; i < n; ++i) {
    const T grad = std::fma(wd, p[i], g[i]), before = p[i];
    const T moment = first ? grad : std::fma(momentum, m[i], rest * grad);
    m_out[i] = moment;
    p_out[i] = std::fma(-lr, s.nesterov ? std::fma(momentum, moment, grad) : moment, before);
  }
}

template <class T>
void adam(const RunArgs& args, int64_t n, const OptimSpec& s) {
  const T *p = input<T>(args, 0), *g = input<T>(args, 1), *m = input<T>(args, 2), *v = input<T>(args, 3);
  const AdamScalars<T> k = adam_scalars(s, *input<T>(args, 4), *input<int64_t>(args, 5));
  const T beta1 = static_cast<T>(s.beta1), rest1 = static_cast<T>(1 - s.beta1);
  const T beta2 = static_cast<T>(s.beta2), rest2 = static_cast<T>(1 - s.beta2), eps = static_cast<T>(s.eps);
  T *p_out = output<T>(args, 0), *m_out = output<T>(args, 1), *v_out = output<T>(args, 2);
  for (int64_t i = 0; i < n; ++i) {
    const T grad = s.decoupled ? g[i] : std::fma(k.decay, p[i], g[i]);
    const T param = s.decoupled ? p[i] * k.decay : p[i];
    const T first = std::fma(beta1, m[i], rest1 * grad), second = std::fma(beta2, v[i], rest2 * grad * grad);
    m_out[i] = first;
    v_out[i] = second;
    p_out[i] = std::fma(-k.rate, first / (std::sqrt(second) * k.second_scale + eps), param);
  }
}

template <class F>
BoundKernel bind(const KernelSpec& spec, F f) {
  return {[n = numel(spec.outputs[0].shape), s = optim_spec(spec.attrs), f](const RunArgs& args) { f(args, n, s); }};
}

BoundKernel bind_sgd_plain(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) { return bind(spec, sgd_plain<decltype(zero)>); });
}
BoundKernel bind_sgd(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) { return bind(spec, sgd<decltype(zero)>); });
}
BoundKernel bind_adam(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) { return bind(spec, adam<decltype(zero)>); });
}

}  // namespace

void register_ref_optim(Registry& r) {
  r.add("ref", 0, "sgd_plain_update", bind_sgd_plain);
  r.add("ref", 0, "sgd_update", bind_sgd);
  r.add("ref", 0, "adam_update", bind_adam);
}

}  // namespace dlcore
