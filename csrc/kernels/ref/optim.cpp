#include <cmath>

#include "kernels/optim_spec.h"

namespace dlcore {

void register_ref_optim(Registry& registry);

namespace {

template <class T>
struct Arithmetic {
  using V = T;
  static T fma(T a, T b, T c) { return std::fma(a, b, c); }
  static T sqrt(T x) { return std::sqrt(x); }
  static T number(T x) { return x; }
};

template <class T>
struct Pointers {
  const T *p, *g, *m, *v;
  T *p_out, *m_out, *v_out;
  Pointers(const RunArgs& r, bool has_m, bool has_v)
      : p(static_cast<const T*>(r.in[0])),
        g(static_cast<const T*>(r.in[1])),
        m(has_m ? static_cast<const T*>(r.in[2]) : nullptr),
        v(has_v ? static_cast<const T*>(r.in[3]) : nullptr),
        p_out(static_cast<T*>(r.out[0])),
        m_out(has_m ? static_cast<T*>(r.out[1]) : nullptr),
        v_out(has_v ? static_cast<T*>(r.out[2]) : nullptr) {}
};

template <class T>
void sgd_plain(const OptimSpec& s, const RunArgs& r) {
  const Pointers<T> a(r, false, false);
  const auto o = s.sgd<T>(r, 2);
  for (int64_t i = 0; i < s.n; ++i) {
    T p = a.p[i];
    optim::sgd_plain<Arithmetic<T>>(o, p, a.g[i]);
    a.p_out[i] = p;
  }
}

template <class T>
void sgd(const OptimSpec& s, const RunArgs& r) {
  const Pointers<T> a(r, true, false);
  const auto o = s.sgd<T>(r, 3, 4);
  for (int64_t i = 0; i < s.n; ++i) {
    T p = a.p[i], m = a.m[i];
    optim::sgd<Arithmetic<T>>(o, p, a.g[i], m);
    a.p_out[i] = p;
    a.m_out[i] = m;
  }
}

template <class T>
void adam(const OptimSpec& s, const RunArgs& r) {
  const Pointers<T> a(r, true, true);
  const auto o = s.adam_at<T>(r);
  for (int64_t i = 0; i < s.n; ++i) {
    T p = a.p[i], m = a.m[i], v = a.v[i];
    optim::adam<Arithmetic<T>>(o, p, a.g[i], m, v);
    a.p_out[i] = p;
    a.m_out[i] = m;
    a.v_out[i] = v;
  }
}

template <void (*f32)(const OptimSpec&, const RunArgs&), void (*f64)(const OptimSpec&, const RunArgs&)>
BoundKernel bind(const KernelSpec& spec) {
  const DType dtype = spec.inputs[0].dtype;
  if (dtype != DType::F32 && dtype != DType::F64) return {};
  return {[s = OptimSpec(spec), run = dtype == DType::F32 ? f32 : f64](const RunArgs& r) { run(s, r); }};
}

}  // namespace

void register_ref_optim(Registry& registry) {
  registry.add("ref", 0, "sgd_plain_update", bind<sgd_plain<float>, sgd_plain<double>>);
  registry.add("ref", 0, "sgd_update", bind<sgd<float>, sgd<double>>);
  registry.add("ref", 0, "adam_update", bind<adam<float>, adam<double>>);
}

}  // namespace dlcore
