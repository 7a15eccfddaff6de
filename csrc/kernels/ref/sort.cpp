// Naive cumsum and sort along an axis.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "kernels/registry.h"

namespace dlcore {
namespace {

struct AxisSpec {
  int64_t outer = 1, n = 1, inner = 1;
};

AxisSpec axis_spec(const KernelSpec& spec, size_t outputs) {
  DLCORE_CHECK(spec.inputs.size() == 1 && spec.outputs.size() == outputs, Value, "[", spec.op,
               "] expected 1 input and ", outputs, " outputs");
  const Shape& shape = spec.inputs[0].shape;
  DLCORE_CHECK(spec.outputs[0] == spec.inputs[0], Value, "[", spec.op, "] output should be ", to_string(spec.inputs[0]),
               ", got ", to_string(spec.outputs[0]));
  const int rank = static_cast<int>(shape.size());
  const int axis = normalize_axis(spec.attrs.integer("axis"), rank, spec.op.c_str());
  AxisSpec s;
  s.n = shape[axis];
  for (int d = 0; d < rank; ++d)
    if (d != axis) (d < axis ? s.outer : s.inner) *= shape[d];
  return s;
}

template <class T>
T read(const void* p, int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(p) + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void write(void* p, int64_t i, T value) {
  std::memcpy(static_cast<char*>(p) + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

// Integers are added unsigned (as U), where wrapping around is defined.
template <class T, class U>
BoundKernel cumsum(const KernelSpec& spec) {
  const AxisSpec s = axis_spec(spec, 1);
  const bool reverse = spec.attrs.integer_or("reverse", 0) != 0;
  return {[s, reverse](const RunArgs& a) {
            for (int64_t o = 0; o < s.outer; ++o)
              for (int64_t i = 0; i < s.inner; ++i) {
                U total = 0;
                for (int64_t k = 0; k < s.n; ++k) {
                  const int64_t at = (o * s.n + (reverse ? s.n - 1 - k : k)) * s.inner + i;
                  total = static_cast<U>(total + static_cast<U>(read<T>(a.in[0], at)));
                  write<T>(a.out[0], at, static_cast<T>(total));
                }
              }
          },
          0,
          {}};
}

BoundKernel bind_cumsum(const KernelSpec& spec) {
  if (spec.inputs.empty()) return {};
  switch (spec.inputs[0].dtype) {
    case DType::F32:
      return cumsum<float, float>(spec);
    case DType::F64:
      return cumsum<double, double>(spec);
    case DType::I8:
      return cumsum<int8_t, uint8_t>(spec);
    case DType::U8:
      return cumsum<uint8_t, uint8_t>(spec);
    case DType::I32:
      return cumsum<int32_t, uint32_t>(spec);
    case DType::I64:
      return cumsum<int64_t, uint64_t>(spec);
    default:
      return {};
  }
}

// What 16-bit floats are compared by: an integer in the order of their values, both zeros alike.
struct SmallFloat {
  uint16_t bits;
};

template <DType D, class T>
bool is_nan(T v) {
  if constexpr (D == DType::F32 || D == DType::F64) return std::isnan(v);
  if constexpr (D == DType::BF16) return (v.bits & 0x7fff) > 0x7f80;
  if constexpr (D == DType::F16) return (v.bits & 0x7fff) > 0x7c00;
  return false;
}

template <class T>
auto key(T v) {
  if constexpr (std::is_same_v<T, SmallFloat>)
    return v.bits & 0x8000 ? -static_cast<int>(v.bits & 0x7fff) : static_cast<int>(v.bits);
  else
    return v;
}

template <DType D, class T>
BoundKernel sort(const KernelSpec& spec) {
  const AxisSpec s = axis_spec(spec, 2);
  DLCORE_CHECK(spec.outputs[1] == (TensorType{DType::I64, spec.inputs[0].shape}), Value,
               "[sort] the second output should be i64 of shape ", to_string(spec.inputs[0].shape), ", got ",
               to_string(spec.outputs[1]));
  const bool descending = spec.attrs.integer_or("descending", 0) != 0;
  struct Item {
    T value;
    int64_t index;
  };
  const size_t workspace = static_cast<size_t>(s.n) * sizeof(Item);
  return {[s, descending](const RunArgs& a) {
            Item* items = static_cast<Item*>(a.workspace);
            const auto before = [descending](const Item& x, const Item& y) {
              const bool x_nan = is_nan<D>(x.value), y_nan = is_nan<D>(y.value);
              if (x_nan || y_nan) return x_nan == y_nan ? x.index < y.index : y_nan;
              const auto p = key(x.value), q = key(y.value);
              if (p == q) return x.index < y.index;  // stable without the memory that std::stable_sort allocates
              return descending ? p > q : p < q;
            };
            for (int64_t o = 0; o < s.outer; ++o)
              for (int64_t i = 0; i < s.inner; ++i) {
                for (int64_t k = 0; k < s.n; ++k) items[k] = {read<T>(a.in[0], (o * s.n + k) * s.inner + i), k};
                std::sort(items, items + s.n, before);
                for (int64_t k = 0; k < s.n; ++k) {
                  write<T>(a.out[0], (o * s.n + k) * s.inner + i, items[k].value);
                  write<int64_t>(a.out[1], (o * s.n + k) * s.inner + i, items[k].index);
                }
              }
          },
          workspace,
          {}};
}

BoundKernel bind_sort(const KernelSpec& spec) {
  if (spec.inputs.empty()) return {};
  switch (spec.inputs[0].dtype) {
    case DType::F32:
      return sort<DType::F32, float>(spec);
    case DType::F64:
      return sort<DType::F64, double>(spec);
    case DType::BF16:
      return sort<DType::BF16, SmallFloat>(spec);
    case DType::F16:
      return sort<DType::F16, SmallFloat>(spec);
    case DType::I8:
      return sort<DType::I8, int8_t>(spec);
    case DType::U8:
      return sort<DType::U8, uint8_t>(spec);
    case DType::I32:
      return sort<DType::I32, int32_t>(spec);
    case DType::I64:
      return sort<DType::I64, int64_t>(spec);
    case DType::Bool:
      return sort<DType::Bool, uint8_t>(spec);
  }
  return {};
}

}  // namespace

void register_ref_sort(Registry& r) {
  r.add("ref", 0, "cumsum", bind_cumsum);
  r.add("ref", 0, "sort", bind_sort);
}

}  // namespace dlcore
