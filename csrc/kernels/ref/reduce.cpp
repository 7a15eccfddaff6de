// Sums and extremes over axes in the orders of docs/ops.md, and the places of extremes.
#include <cmath>
#include <limits>

#include "kernels/convert.h"
#include "kernels/reduce_spec.h"
#include "kernels/ref/rows.h"

namespace dlcore {

namespace {

// ---- what is reduced ----

// Integers wrap around: summed as unsigned.
template <class T>
struct SumType {
  using type = T;
};
template <>
struct SumType<int32_t> {
  using type = uint32_t;
};
template <>
struct SumType<int64_t> {
  using type = uint64_t;
};

template <class T>
struct Sum {
  using S = typename SumType<T>::type;
  static T row(const T* x, int64_t n) {
    ref::Lanes16<S> lanes;
    for (int64_t i = 0; i < n; ++i) lanes.add(i, static_cast<S>(x[i]));
    return static_cast<T>(lanes.sum());
  }
  static T join(T a, T b) { return static_cast<T>(static_cast<S>(a) + static_cast<S>(b)); }
  // The sum in blocks of x[offset(0)], x[offset(1)], …
  template <class F>
  static T column(const T* x, int64_t n, F offset) {
    ref::Blocks512<S> blocks;
    for (int64_t i = 0; i < n; ++i) blocks.add(static_cast<S>(x[offset(i)]));
    return static_cast<T>(blocks.sum());
  }
};

template <class T, bool largest>
struct Extreme {
  // The first of equals, and a NaN before all else.
  static T join(T a, T b) {
    if constexpr (std::is_floating_point_v<T>)
      if (b != b) return b;
    return (largest ? b > a : b < a) ? b : a;
  }
  static T start() {
    using Limits = std::numeric_limits<T>;
    if constexpr (std::is_floating_point_v<T>)
      return largest ? -Limits::infinity() : Limits::infinity();
    else
      return largest ? Limits::lowest() : Limits::max();
  }
  // In lanes as a sum, so that of 0 and -0 the same one is found.
  static T row(const T* x, int64_t n) {
    T lane[16];
    for (T& l : lane) l = start();
    for (int64_t i = 0; i < n; ++i) lane[i % 16] = join(lane[i % 16], x[i]);
    for (int step = 8; step > 0; step /= 2)
      for (int l = 0; l < step; ++l) lane[l] = join(lane[l], lane[l + step]);
    return lane[0];
  }
  template <class F>
  static T column(const T* x, int64_t n, F offset) {
    T best = start();
    for (int64_t i = 0; i < n; ++i) best = join(best, x[offset(i)]);
    return best;
  }
};

template <class T, class R>
BoundKernel reduce(const KernelSpec& spec) {
  return {[r = reduce_spec(spec)](const RunArgs& args) {
    const T* x = static_cast<const T*>(args.in[0]);
    T* out = static_cast<T*>(args.out[0]);
    for (int64_t o = 0; o < r.outputs; ++o) {
      const T* from = x + axes_offset(r.kept, o / r.inner) + o % r.inner;
      const auto offset = [&](int64_t i) { return axes_offset(r.reduced, i); };
      if (r.identity) {
        out[o] = x[o];
      } else if (r.last_reduced) {
        T result = T();
        for (int64_t i = 0; i < r.count; ++i) {
          const T row = R::row(from + offset(i), r.tail);
          result = i == 0 ? row : R::join(result, row);
        }
        out[o] = result;
      } else {
        out[o] = R::column(from, r.count, offset);
      }
    }
  }};
}

BoundKernel bind_reduce(const KernelSpec& spec) {
  return for_dtype(spec.inputs[0].dtype, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    if constexpr (!kIsHalf<T>) {
      if (spec.op == "max") return reduce<T, Extreme<T, true>>(spec);
      if (spec.op == "min") return reduce<T, Extreme<T, false>>(spec);
      if constexpr (sizeof(T) >= 4) return reduce<T, Sum<T>>(spec);
    }
    return {};
  });
}

template <class T, bool largest>
BoundKernel arg_extreme(const KernelSpec& spec) {
  const Shape& shape = spec.inputs[0].shape;
  const auto axis =
      static_cast<size_t>(normalize_axis(spec.attrs.integer("axis"), static_cast<int>(shape.size()), spec.op.c_str()));
  return {[outer = ref::product(shape, 0, axis), n = shape[axis],
           inner = ref::product(shape, axis + 1, shape.size())](const RunArgs& args) {
    const T* x = static_cast<const T*>(args.in[0]);
    int64_t* out = static_cast<int64_t*>(args.out[0]);
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t c = 0; c < inner; ++c) {
        const T* from = x + o * n * inner + c;
        int64_t best = 0;
        for (int64_t i = 1; i < n; ++i) {
          const T a = from[best * inner], b = from[i * inner];
          if (a == a && (b != b || (largest ? b > a : b < a))) best = i;
        }
        out[o * inner + c] = best;
      }
  }};
}

BoundKernel bind_arg(const KernelSpec& spec) {
  return for_dtype(spec.inputs[0].dtype, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    if constexpr (kIsHalf<T>)
      return {};
    else
      return spec.op == "argmax" ? arg_extreme<T, true>(spec) : arg_extreme<T, false>(spec);
  });
}

}  // namespace

void register_ref_reduce(Registry& r) {
  for (const char* op : {"sum", "max", "min"}) r.add("ref", 0, op, bind_reduce);
  for (const char* op : {"argmax", "argmin"}) r.add("ref", 0, op, bind_arg);
}

}  // namespace dlcore
