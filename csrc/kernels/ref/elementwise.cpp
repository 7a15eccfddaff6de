// Element-wise ops, one element at a time; f32 by the functions that the vector kernels use, f64 by <cmath>.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "base/tile_code.h"
#include "kernels/convert.h"
#include "kernels/map_names.h"
#include "kernels/registry.h"
#include "kernels/scalar.h"
// After scalar.h, which says at what width.
#include "kernels/map_ops.h"

namespace dlcore {

namespace {

// ---- the functions, by type ----

template <class T>
using Unary = T (*)(T);
template <class T>
using Binary = T (*)(T, T);
template <class T>
using Test = bool (*)(T, T);

Unary<float> unary_of(std::string_view op, float) {
#define PICK(name) \
  if (op == #name) return [](float x) { return scalar::ops::name::run(x); };
  DLCORE_UNARY_OPS(PICK)
#undef PICK
  return nullptr;
}

double sign(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }

Unary<double> unary_of(std::string_view op, double) {
#define PICK(name, value) \
  if (op == #name) return [](double x) -> double { return value; };
#define SCALAR(name) PICK(name, scalar_##name(x))
  SCALAR(exp)
  SCALAR(expm1)
  SCALAR(log)
  SCALAR(log1p)
  SCALAR(sin)
  SCALAR(cos)
  SCALAR(tanh)
  SCALAR(sigmoid)
  SCALAR(erf)
  SCALAR(gelu)
  SCALAR(gelu_slope)
  SCALAR(gelu_tanh)
  SCALAR(silu)
  SCALAR(softplus)
  SCALAR(rsqrt)
#undef SCALAR
  PICK(sqrt, std::sqrt(x))
  PICK(reciprocal, 1.0 / x)
  PICK(floor, std::floor(x))
  PICK(ceil, std::ceil(x))
  PICK(round, std::nearbyint(x))
  PICK(neg, -x)
  PICK(abs, std::fabs(x))
  PICK(sign, sign(x))
  PICK(relu, x < 0 ? 0.0 : x)
#undef PICK
  return nullptr;
}

// Integers wrap around.
template <class T>
Unary<T> unary_of(std::string_view op, T) {
  if (op == "neg") return [](T x) { return static_cast<T>(uint64_t{0} - static_cast<uint64_t>(x)); };
  if (op == "abs") return [](T x) { return x < 0 ? static_cast<T>(uint64_t{0} - static_cast<uint64_t>(x)) : x; };
  if (op == "sign") return [](T x) { return static_cast<T>((x > 0) - (x < 0)); };
  if (op == "relu") return [](T x) { return x < 0 ? T(0) : x; };
  return nullptr;
}

Binary<float> binary_of(std::string_view op, float) {
#define PICK(name) \
  if (op == #name) return [](float a, float b) { return scalar::ops::name::run(a, b); };
  DLCORE_BINARY_OPS(PICK)
#undef PICK
  return nullptr;
}

double remainder(double a, double b) {
  const double r = std::fmod(a, b);
  return r == 0 ? std::copysign(0.0, b) : (r < 0) != (b < 0) ? r + b : r;
}

Binary<double> binary_of(std::string_view op, double) {
  if (op == "add") return [](double a, double b) { return a + b; };
  if (op == "sub") return [](double a, double b) { return a - b; };
  if (op == "mul") return [](double a, double b) { return a * b; };
  if (op == "div") return [](double a, double b) { return a / b; };
  if (op == "pow") return [](double a, double b) { return std::pow(a, b); };
  if (op == "maximum") return [](double a, double b) { return a > b || a != a ? a : b; };
  if (op == "minimum") return [](double a, double b) { return a < b || a != a ? a : b; };
  if (op == "remainder") return remainder;
  return nullptr;
}

// Of the divisor's sign; 0 for a divisor of 0.
template <class T>
T integer_remainder(T a, T b) {
  if (b == 0 || (std::is_signed_v<T> && b == static_cast<T>(-1))) return 0;
  const T r = static_cast<T>(a % b);
  return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
}

template <class T>
Binary<T> binary_of(std::string_view op, T) {
  using U = uint64_t;
  if (op == "add") return [](T a, T b) { return static_cast<T>(static_cast<U>(a) + static_cast<U>(b)); };
  if (op == "sub") return [](T a, T b) { return static_cast<T>(static_cast<U>(a) - static_cast<U>(b)); };
  if (op == "mul") return [](T a, T b) { return static_cast<T>(static_cast<U>(a) * static_cast<U>(b)); };
  if (op == "maximum") return [](T a, T b) { return a > b ? a : b; };
  if (op == "minimum") return [](T a, T b) { return a < b ? a : b; };
  if (op == "remainder") return integer_remainder<T>;
  return nullptr;
}

template <class T>
Test<T> test_of(std::string_view op) {
  if (op == "eq") return [](T a, T b) { return a == b; };
  if (op == "ne") return [](T a, T b) { return a != b; };
  if (op == "lt") return [](T a, T b) { return a < b; };
  if (op == "le") return [](T a, T b) { return a <= b; };
  if (op == "gt") return [](T a, T b) { return a > b; };
  if (op == "ge") return [](T a, T b) { return a >= b; };
  if (op == "logical_and") return [](T a, T b) { return a != T(0) && b != T(0); };
  if (op == "logical_or") return [](T a, T b) { return a != T(0) || b != T(0); };
  if (op == "logical_xor") return [](T a, T b) { return (a != T(0)) != (b != T(0)); };
  return nullptr;
}

// ---- walking over broadcast inputs ----

// Where each element of the output is found in each input.
class Walk {
 public:
  explicit Walk(const KernelSpec& spec) : shape_(spec.outputs[0].shape), total_(numel(shape_)) {
    for (const TensorType& t : spec.inputs) {
      std::vector<int64_t> strides(shape_.size(), 0);
      const std::vector<int64_t> own = row_major_strides(t.shape);
      for (size_t d = 0; d < t.shape.size(); ++d)
        if (t.shape[d] != 1) strides[shape_.size() - t.shape.size() + d] = own[d];
      strides_.push_back(std::move(strides));
    }
  }

  // f(i, offsets) for every element i.
  template <class F>
  void each(F f) const {
    std::vector<int64_t> index(shape_.size(), 0), offset(strides_.size(), 0);
    for (int64_t i = 0; i < total_; ++i) {
      f(i, offset.data());
      for (size_t d = shape_.size(); d-- > 0;) {
        ++index[d];
        for (size_t k = 0; k < offset.size(); ++k) offset[k] += strides_[k][d];
        if (index[d] < shape_[d]) break;
        for (size_t k = 0; k < offset.size(); ++k) offset[k] -= strides_[k][d] * shape_[d];
        index[d] = 0;
      }
    }
  }

 private:
  Shape shape_;
  int64_t total_;
  std::vector<std::vector<int64_t>> strides_;
};

template <class T>
const T* input(const RunArgs& args, int i) {
  return static_cast<const T*>(args.in[i]);
}

template <class T, class R, class F>
BoundKernel map1(const KernelSpec& spec, F f) {
  return {[n = numel(spec.outputs[0].shape), f](const RunArgs& args) {
    const T* x = input<T>(args, 0);
    R* y = static_cast<R*>(args.out[0]);
    for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
  }};
}

template <class T, class R, class F>
BoundKernel map2(const KernelSpec& spec, F f) {
  return {[walk = Walk(spec), f](const RunArgs& args) {
    const T *a = input<T>(args, 0), *b = input<T>(args, 1);
    R* y = static_cast<R*>(args.out[0]);
    walk.each([&](int64_t i, const int64_t* at) { y[i] = f(a[at[0]], b[at[1]]); });
  }};
}

// ---- binding ----

template <class T>
BoundKernel bind_typed(const KernelSpec& spec) {
  const std::string& op = spec.op;
  if (spec.inputs.size() == 1) {
    if (op == "logical_not") return map1<T, bool>(spec, [](T x) { return x == T(0); });
    if constexpr (std::is_floating_point_v<T>) {
      if (op == "isnan") return map1<T, bool>(spec, [](T x) { return std::isnan(x); });
      if (op == "isfinite") return map1<T, bool>(spec, [](T x) { return std::isfinite(x); });
    }
    if constexpr (!std::is_same_v<T, bool>)
      if (const Unary<T> f = unary_of(op, T())) return map1<T, T>(spec, f);
    return {};
  }
  if (const Test<T> f = test_of<T>(op)) return map2<T, bool>(spec, f);
  if constexpr (!std::is_same_v<T, bool>)
    if (const Binary<T> f = binary_of(op, T())) return map2<T, T>(spec, f);
  return {};
}

BoundKernel bind_op(const KernelSpec& spec) {
  return for_dtype(spec.inputs[0].dtype, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    if constexpr (kIsHalf<T>)
      return {};
    else
      return bind_typed<T>(spec);
  });
}

BoundKernel bind_where(const KernelSpec& spec) {
  return {[walk = Walk(spec), size = size_of(spec.outputs[0].dtype)](const RunArgs& args) {
    const bool* c = input<bool>(args, 0);
    const char *a = input<char>(args, 1), *b = input<char>(args, 2);
    char* y = static_cast<char*>(args.out[0]);
    const auto bytes = static_cast<int64_t>(size);
    walk.each([&](int64_t i, const int64_t* at) {
      std::memmove(y + i * bytes, c[at[0]] ? a + at[1] * bytes : b + at[2] * bytes, size);
    });
  }};
}

BoundKernel bind_cast(const KernelSpec& spec) {
  return for_dtype(spec.inputs[0].dtype, [&](auto from) {
    return for_dtype(spec.outputs[0].dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      return map1<From, To>(spec, [](From x) { return convert<To>(x); });
    });
  });
}

BoundKernel bind_gelu_with_slope(const KernelSpec& spec) {
  const auto bind = [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    return {[n = numel(spec.outputs[0].shape)](const RunArgs& args) {
      const T* from = input<T>(args, 0);
      T *y = static_cast<T*>(args.out[0]), *slope = static_cast<T*>(args.out[1]);
      for (int64_t i = 0; i < n; ++i) {
        const T x = from[i];  // y may stand in its place
        y[i] = scalar_gelu(x);
        slope[i] = scalar_gelu_slope(x);
      }
    }};
  };
  return spec.inputs[0].dtype == DType::F64 ? bind(0.0) : bind(0.0f);
}

BoundKernel bind_copy(const KernelSpec& spec) {
  return {[bytes = byte_size(spec.outputs[0])](const RunArgs& args) {
    if (bytes > 0) std::memmove(args.out[0], args.in[0], static_cast<size_t>(bytes));
  }};
}

BoundKernel bind_full(const KernelSpec& spec) {
  return for_dtype(spec.outputs[0].dtype, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    return {[x = convert<T>(spec.attrs.real("value")), n = numel(spec.outputs[0].shape)](const RunArgs& args) {
      std::fill_n(static_cast<T*>(args.out[0]), n, x);
    }};
  });
}

BoundKernel bind_iota(const KernelSpec& spec) {
  return for_dtype(spec.outputs[0].dtype, [&](auto zero) -> BoundKernel {
    using T = decltype(zero);
    return {[n = numel(spec.outputs[0].shape)](const RunArgs& args) {
      for (int64_t i = 0; i < n; ++i) static_cast<T*>(args.out[0])[i] = convert<T>(i);
    }};
  });
}

// ---- fused ----

struct Step {
  Unary<float> unary = nullptr;
  Binary<float> binary = nullptr;
  Test<float> test = nullptr;
  std::vector<TileOperand> args;
};

Step make_step(const TileInstr& instr) {
  Step step;
  step.args = instr.args;
  if (instr.op == "isnan") step.unary = [](float x) { return std::isnan(x) ? 1.0f : 0.0f; };
  if (instr.op == "isfinite") step.unary = [](float x) { return std::isfinite(x) ? 1.0f : 0.0f; };
  if (instr.op == "logical_not") step.unary = [](float x) { return x == 0.0f ? 1.0f : 0.0f; };
  if (instr.args.size() == 1 && !step.unary) step.unary = unary_of(instr.op, 0.0f);
  if (instr.args.size() == 2) step.binary = binary_of(instr.op, 0.0f);
  if (instr.args.size() == 2) step.test = test_of<float>(instr.op);
  return step;
}

BoundKernel bind_fused(const KernelSpec& spec) {
  const TileProgram code = parse_tile_code(spec.attrs.text("code"), static_cast<int>(spec.inputs.size()));
  DLCORE_CHECK(code.outputs.size() == spec.outputs.size(), Value, "[fused] the code has ", code.outputs.size(),
               " outputs, the node ", spec.outputs.size());
  std::vector<Step> steps;
  for (const TileInstr& instr : code.instrs) steps.push_back(make_step(instr));
  return {[walk = Walk(spec), steps, outputs = code.outputs](const RunArgs& args) {
    std::vector<float> t(steps.size());
    walk.each([&](int64_t i, const int64_t* at) {
      const auto value = [&](const TileOperand& a) {
        const auto k = static_cast<size_t>(a.index);
        if (a.kind == TileOperand::Kind::Input) return input<float>(args, a.index)[at[k]];
        return a.kind == TileOperand::Kind::Temp ? t[k] : a.value;
      };
      for (size_t k = 0; k < steps.size(); ++k) {
        const Step& s = steps[k];
        const float a = value(s.args[0]);
        if (s.unary)
          t[k] = s.unary(a);
        else if (s.binary)
          t[k] = s.binary(a, value(s.args[1]));
        else if (s.test)
          t[k] = s.test(a, value(s.args[1])) ? 1.0f : 0.0f;
        else
          t[k] = value(s.args[a != 0.0f ? 1 : 2]);
      }
      for (size_t j = 0; j < outputs.size(); ++j)
        static_cast<float*>(args.out[j])[i] = t[static_cast<size_t>(outputs[j])];
    });
  }};
}

}  // namespace

void register_ref_elementwise(Registry& r) {
  for (const std::string_view op : kElementwiseNames)
    r.add("ref", 0, op, op == "where" ? bind_where : op == "cast" ? bind_cast : bind_op);
  r.add("ref", 0, "gelu_with_slope", bind_gelu_with_slope);
  r.add("ref", 0, "copy", bind_copy);
  r.add("ref", 0, "stop_gradient", bind_copy);
  r.add("ref", 0, "full", bind_full);
  r.add("ref", 0, "iota", bind_iota);
  r.add("ref", 0, "fused", bind_fused);
}

}  // namespace dlcore
