#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/attention_spec.h"
#include "kernels/ref/rows.h"
#include "kernels/scalar.h"
// after scalar.h, which declares what it is made of
#include "kernels/quick_exp.h"

namespace dlcore {

namespace {

using namespace ref;

// Query i sees the first so many keys.
int64_t seen(const AttentionSpec& s, int64_t i) {
  return s.causal ? std::clamp<int64_t>(i + s.keys - s.queries + 1, 0, s.keys) : s.keys;
}

// Row 0 of a head.
template <class T>
T* head_of(T* data, const HeadRows& rows, const AttentionSpec& s, int64_t head) {
  return data + rows.offset + head / s.heads * rows.batch + head % s.heads * rows.head;
}

// scale·dot, with what the mask adds.
template <class T>
T score(const RunArgs& args, const AttentionSpec& s, int64_t head, int64_t query, int64_t key, T scaled) {
  if (s.mask < 0) return scaled;
  return scaled + head_of(input<T>(args, s.mask), s.mask_rows, s, head)[query * s.mask_rows.row + key];
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
void attention(const RunArgs& args, const AttentionSpec& s) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const T scale = static_cast<T>(s.scale);
  std::vector<T> e(static_cast<size_t>(s.keys));
  for (int64_t head = 0; head < s.batch * s.heads; ++head) {
    const T* k = head_of(input<T>(args, 1), s.k, s, head);
    const T* v = head_of(input<T>(args, 2), s.v, s, head);
    for (int64_t i = 0; i < s.queries; ++i) {
      const int64_t visible = seen(s, i);
      const T* q = head_of(input<T>(args, 0), s.q, s, head) + i * s.q.row;
      T* out = head_of(output<T>(args, 0), s.out, s, head) + i * s.out.row;
      T m = -kInfinity;
      for (int64_t j = 0; j < visible; ++j) {
        const T x = score(args, s, head, i, j, scale * dot(q, k + j * s.k.row, s.width));
        e[static_cast<size_t>(j)] = x;
        m = x > m ? x : m;
      }
      if (m == -kInfinity) m = T(0);  // nothing seen, or only -inf: all exponentials are 0 then, and not NaN
      Lanes16<T> sum;
      for (int64_t j = 0; j < visible; ++j) {
        T& p = e[static_cast<size_t>(j)];
        p = weight(p - m);
        sum.add(j, p);
      }
      const T l = sum.sum(), inverse = l == T(0) ? T(0) : T(1) / l;
      output<T>(args, 1)[head * s.queries + i] = l == T(0) ? -kInfinity : m + scalar_log(l);
      for (int64_t d = 0; d < s.width; ++d) {
        T chain = T(0);
        for (int64_t j = 0; j < visible; ++j) chain = std::fma(e[static_cast<size_t>(j)], v[j * s.v.row + d], chain);
        out[d] = chain * inverse;
      }
    }
  }
}

template <class T>
void attention_backward(const RunArgs& args, const AttentionSpec& s) {
  const T scale = static_cast<T>(s.scale);
  const T* const lses = input<T>(args, 5);
  for (int64_t head = 0; head < s.batch * s.heads; ++head) {
    const T *k = head_of(input<T>(args, 2), s.k, s, head), *v = head_of(input<T>(args, 3), s.v, s, head);
    T* dk = head_of(output<T>(args, s.into[1]), s.dk, s, head);
    T* dv = head_of(output<T>(args, s.into[2]), s.dv, s, head);
    for (int64_t j = 0; j < s.keys; ++j) {
      std::fill_n(dk + j * s.dk.row, s.width, T(0));
      std::fill_n(dv + j * s.dv.row, s.width, T(0));
    }
    for (int64_t i = 0; i < s.queries; ++i) {
      const int64_t row = head * s.queries + i;
      const T* dout = head_of(input<T>(args, 0), s.dout, s, head) + i * s.dout.row;
      const T* q = head_of(input<T>(args, 1), s.q, s, head) + i * s.q.row;
      const T* out = head_of(input<T>(args, 4), s.out, s, head) + i * s.out.row;
      T* dq = head_of(output<T>(args, s.into[0]), s.dq, s, head) + i * s.dq.row;
      const T lse = lses[row] == -std::numeric_limits<T>::infinity() ? T(0) : lses[row];
      Lanes16<T> products;
      for (int64_t d = 0; d < s.width; ++d) products.fma(d, dout[d], out[d]);
      const T delta = products.sum();
      std::fill_n(dq, s.width, T(0));
      for (int64_t j = 0; j < seen(s, i); ++j) {
        const T* key = k + j * s.k.row;
        const T p = weight(score(args, s, head, i, j, scale * dot(q, key, s.width)) - lse);
        const T ds = (p * (dot(dout, v + j * s.v.row, s.width) - delta)) * scale;
        for (int64_t d = 0; d < s.width; ++d) {
          dq[d] = std::fma(ds, key[d], dq[d]);
          dk[j * s.dk.row + d] = std::fma(ds, q[d], dk[j * s.dk.row + d]);
          dv[j * s.dv.row + d] = std::fma(p, dout[d], dv[j * s.dv.row + d]);
        }
      }
    }
  }
}

BoundKernel bind_attention(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    return {[s = attention_spec(spec)](const RunArgs& args) { attention<decltype(zero)>(args, s); }};
  });
}

BoundKernel bind_attention_backward(const KernelSpec& spec) {
  return for_float(spec, [&](auto zero) -> BoundKernel {
    return {[s = attention_spec(spec)](const RunArgs& args) { attention_backward<decltype(zero)>(args, s); }};
  });
}

}  // namespace

void register_ref_attention(Registry& r) {
  r.add("ref", 0, "attention", bind_attention);
  r.add("ref", 0, "attention_backward", bind_attention_backward);
  r.add("ref", 0, "attention_strided", bind_attention);
  r.add("ref", 0, "attention_strided_backward", bind_attention_backward);
}

}  // namespace dlcore
