#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/ref/rows.h"
#include "kernels/scalar.h"
// after scalar.h, which declares what it is made of
#include "kernels/quick_exp.h"

namespace dlcore {

namespace {

using namespace ref;

struct Attention {
  int64_t heads, queries, keys, size;
  double scale;
  bool causal;
  int64_t heads_a_batch = 1, mask_input = -1, mask_batch = 0, mask_head = 0, mask_query = 0;
  // Query i sees the first so many keys.
  int64_t seen(int64_t i) const { return causal ? std::clamp<int64_t>(i + keys - queries + 1, 0, keys) : keys; }
};

// The mask is the input after `last`, if any.
Attention attention_of(const KernelSpec& spec, const Shape& q, const Shape& k, size_t last) {
  Attention a = {q[0] * q[1], q[2], k[2], q[3], spec.attrs.real("scale"), spec.attrs.integer_or("causal", 0) != 0};
  a.heads_a_batch = q[1];
  if (spec.inputs.size() <= last + 1) return a;
  const Shape& m = spec.inputs[last + 1].shape;
  a.mask_input = static_cast<int64_t>(last) + 1;
  a.mask_query = m[2] == 1 ? 0 : a.keys;
  a.mask_head = m[1] == 1 ? 0 : m[2] * a.keys;
  a.mask_batch = m[0] == 1 ? 0 : m[1] * m[2] * a.keys;
  return a;
}

// scale·dot, with what the mask adds.
template <class T>
T score(const RunArgs& args, const Attention& a, int64_t head, int64_t query, int64_t key, T scaled) {
  if (a.mask_input < 0) return scaled;
  const int64_t at = head / a.heads_a_batch * a.mask_batch + head % a.heads_a_batch * a.mask_head;
  return scaled + input<T>(args, static_cast<int>(a.mask_input))[at + query * a.mask_query + key];
}

// Of a score below the maximum, or below the logarithm of the sum.
float weight(float x) { return scalar::quick_exp(scalar::at_most(x, 87.0f)); }
double weight(double x) { return std::exp(x); }

template <class T>
T dot(const T* a, const T* b, int64_t n) {
  T sum = T(0);
  for (int64_t i = 0; i < n; ++i) sum = std::fma(a[i], b[i], sum);
  return sum;
}

template <class T>
void attention(const RunArgs& args, const Attention& a) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const T scale = static_cast<T>(a.scale);
  std::vector<T> e(static_cast<size_t>(a.keys));
  for (int64_t head = 0; head < a.heads; ++head) {
    const T* k = input<T>(args, 1) + head * a.keys * a.size;
    const T* v = input<T>(args, 2) + head * a.keys * a.size;
    for (int64_t i = 0; i < a.queries; ++i) {
      const int64_t row = head * a.queries + i, seen = a.seen(i);
      const T* q = input<T>(args, 0) + row * a.size;
      T* out = output<T>(args, 0) + row * a.size;
      T m = -kInfinity;
      for (int64_t j = 0; j < seen; ++j) {
        const T s = score(args, a, head, i, j, scale * dot(q, k + j * a.size, a.size));
        e[static_cast<size_t>(j)] = s;
        m = s > m ? s : m;
      }
      if (m == -kInfinity) m = T(0);  // nothing seen, or only -inf: all exponentials are 0 then, and not NaN
      Lanes16<T> sum;
      for (int64_t j = 0; j < seen; ++j) {
        T& p = e[static_cast<size_t>(j)];
        p = weight(p - m);
        sum.add(j, p);
      }
      const T l = sum.sum(), inverse = l == T(0) ? T(0) : T(1) / l;
      output<T>(args, 1)[row] = l == T(0) ? -kInfinity : m + scalar_log(l);
      for (int64_t d = 0; d < a.size; ++d) {
        T chain = T(0);
        for (int64_t j = 0; j < seen; ++j) chain = std::fma(e[static_cast<size_t>(j)], v[j * a.size + d], chain);
        out[d] = chain * inverse;
      }
    }
  }
}

template <class T>
void attention_backward(const RunArgs& args, const Attention& a) {
  const T scale = static_cast<T>(a.scale);
  const T* const lses = input<T>(args, 5);
  for (int64_t head = 0; head < a.heads; ++head) {
    const int64_t keys = head * a.keys * a.size;
    const T *k = input<T>(args, 2) + keys, *v = input<T>(args, 3) + keys;
    T *dk = output<T>(args, 1) + keys, *dv = output<T>(args, 2) + keys;
    std::fill(dk, dk + a.keys * a.size, T(0));
    std::fill(dv, dv + a.keys * a.size, T(0));
    for (int64_t i = 0; i < a.queries; ++i) {
      const int64_t row = head * a.queries + i;
      const T *dout = input<T>(args, 0) + row * a.size, *q = input<T>(args, 1) + row * a.size;
      const T* out = input<T>(args, 4) + row * a.size;
      T* dq = output<T>(args, 0) + row * a.size;
      const T lse = lses[row] == -std::numeric_limits<T>::infinity() ? T(0) : lses[row];
      Lanes16<T> products;
      for (int64_t d = 0; d < a.size; ++d) products.fma(d, dout[d], out[d]);
      const T delta = products.sum();
      std::fill(dq, dq + a.size, T(0));
      for (int64_t j = 0; j < a.seen(i); ++j) {
        const T p = weight(score(args, a, head, i, j, scale * dot(q, k + j * a.size, a.size)) - lse);
        const T ds = (p * (dot(dout, v + j * a.size, a.size) - delta)) * scale;
        for (int64_t d = 0; d < a.size; ++d) {
          dq[d] = std::fma(ds, k[j * a.size + d], dq[d]);
          dk[j * a.size + d] = std::fma(ds, q[d], dk[j * a.size + d]);
          dv[j * a.size + d] = std::fma(p, dout[d], dv[j * a.size + d]);
        }
      }
    }
  }
}

BoundKernel bind_attention(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    const Attention a = attention_of(spec, spec.inputs[0].shape, spec.inputs[1].shape, 2);
    return {[=](const RunArgs& args) { attention<decltype(zero)>(args, a); }};
  });
}

BoundKernel bind_attention_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    const Attention a = attention_of(spec, spec.inputs[1].shape, spec.inputs[2].shape, 5);
    return {[=](const RunArgs& args) { attention_backward<decltype(zero)>(args, a); }};
  });
}

}  // namespace

void register_ref_attention(Registry& r) {
  r.add("ref", 0, "attention", bind_attention);
  r.add("ref", 0, "attention_backward", bind_attention_backward);
}

}  // namespace dlcore
