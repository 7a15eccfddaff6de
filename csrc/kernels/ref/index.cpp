// Naive take, scatter_add, take_along_axis, scatter_along_axis, and the checks shared with cpu/.
#include <cstring>

#include "base/error.h"
#include "kernels/index_spec.h"
#include "kernels/ref/expect.h"

namespace dlcore {
namespace {

int64_t checked(const char* op, DType dtype, const void* indices, int64_t position, int64_t size) {
  const int64_t i = index_at(dtype, indices, position);
  if (i < 0 || i >= size) index_error(op, i, position, 0, size);
  return i;
}

BoundKernel bind_take(const KernelSpec& spec) {
  const IndexSpec s = row_index_spec(spec);
  const int64_t bytes = s.row * static_cast<int64_t>(size_of(s.value));
  return {[s, bytes](const RunArgs& a) {
            char* out = static_cast<char*>(a.out[0]);
            for (int64_t p = 0; p < s.count; ++p) {
              const int64_t i = checked("take", s.index, a.in[1], p, s.size);
              if (bytes > 0) std::memcpy(out + p * bytes, static_cast<const char*>(a.in[0]) + i * bytes, bytes);
            }
          },
          0,
          {}};
}

BoundKernel bind_take_along_axis(const KernelSpec& spec) {
  const IndexSpec s = axis_index_spec(spec);
  const int64_t bytes = static_cast<int64_t>(size_of(s.value));
  return {[s, bytes](const RunArgs& a) {
            int64_t p = 0;
            for (int64_t o = 0; o < s.outer; ++o)
              for (int64_t k = 0; k < s.count; ++k)
                for (int64_t i = 0; i < s.inner; ++i, ++p) {
                  const int64_t at = checked("take_along_axis", s.index, a.in[1], p, s.size);
                  std::memcpy(static_cast<char*>(a.out[0]) + p * bytes,
                              static_cast<const char*>(a.in[0]) + ((o * s.size + at) * s.inner + i) * bytes, bytes);
                }
          },
          0,
          {}};
}

// Integers wrap around, which signed arithmetic may not.
template <class T>
T sum(T a, T b) {
  return a + b;
}
template <>
int32_t sum(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
template <>
int64_t sum(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

template <class T>
void add_at(void* out, int64_t to, const void* in, int64_t from) {
  T a, b;
  char* p = static_cast<char*>(out) + to * static_cast<int64_t>(sizeof(T));
  std::memcpy(&a, p, sizeof(T));
  std::memcpy(&b, static_cast<const char*>(in) + from * static_cast<int64_t>(sizeof(T)), sizeof(T));
  a = sum<T>(a, b);
  std::memcpy(p, &a, sizeof(T));
}

template <class T>
void scatter_add(const IndexSpec& s, const RunArgs& a) {
  if (s.size * s.row > 0) std::memset(a.out[0], 0, s.size * s.row * sizeof(T));
  for (int64_t p = 0; p < s.count; ++p) {
    const int64_t i = checked("scatter_add", s.index, a.in[1], p, s.size);
    for (int64_t j = 0; j < s.row; ++j) add_at<T>(a.out[0], i * s.row + j, a.in[0], p * s.row + j);
  }
}

template <class T>
void scatter_along_axis(const IndexSpec& s, const RunArgs& a) {
  if (s.outer * s.size * s.inner > 0) std::memset(a.out[0], 0, s.outer * s.size * s.inner * sizeof(T));
  int64_t p = 0;
  for (int64_t o = 0; o < s.outer; ++o)
    for (int64_t k = 0; k < s.count; ++k)
      for (int64_t i = 0; i < s.inner; ++i, ++p) {
        const int64_t at = checked("scatter_along_axis", s.index, a.in[1], p, s.size);
        add_at<T>(a.out[0], (o * s.size + at) * s.inner + i, a.in[0], p);
      }
}

template <class T>
BoundKernel scatter_kernel(const KernelSpec& spec) {
  if (spec.op == "scatter_add") return {[s = row_index_spec(spec)](const RunArgs& a) { scatter_add<T>(s, a); }, 0, {}};
  return {[s = axis_index_spec(spec)](const RunArgs& a) { scatter_along_axis<T>(s, a); }, 0, {}};
}

BoundKernel bind_scatter(const KernelSpec& spec) {
  if (spec.inputs.empty()) return {};
  switch (spec.inputs[0].dtype) {
    case DType::F32:
      return scatter_kernel<float>(spec);
    case DType::F64:
      return scatter_kernel<double>(spec);
    case DType::I32:
      return scatter_kernel<int32_t>(spec);
    case DType::I64:
      return scatter_kernel<int64_t>(spec);
    default:
      return {};
  }
}

}  // namespace

IndexSpec row_index_spec(const KernelSpec& spec) {
  const bool take = spec.op == "take";
  expect(spec, spec.inputs.size() == 2 && spec.outputs.size() == 1);
  const TensorType& in = spec.inputs[0];
  const TensorType& index = spec.inputs[1];
  const TensorType& out = spec.outputs[0];
  expect(spec, is_integer(index.dtype) && in.dtype == out.dtype);
  IndexSpec s;
  s.value = in.dtype;
  s.index = index.dtype;
  s.count = numel(index.shape);
  // One side is [size, row…], the other index.shape + row….
  const Shape& table = take ? in.shape : out.shape;
  const Shape& rows = take ? out.shape : in.shape;
  expect(spec, !table.empty());
  s.size = table[0];
  expect(spec, take || spec.attrs.integer("size") == s.size);
  Shape want = index.shape;
  want.insert(want.end(), table.begin() + 1, table.end());
  expect(spec, rows == want);
  s.row = numel(Shape(table.begin() + 1, table.end()));
  return s;
}

IndexSpec axis_index_spec(const KernelSpec& spec) {
  const bool take = spec.op == "take_along_axis";
  expect(spec, spec.inputs.size() == 2 && spec.outputs.size() == 1);
  const TensorType& in = spec.inputs[0];
  const TensorType& index = spec.inputs[1];
  const TensorType& out = spec.outputs[0];
  expect(spec, is_integer(index.dtype) && in.dtype == out.dtype);
  const Shape& table = take ? in.shape : out.shape;
  const Shape& rows = take ? out.shape : in.shape;
  const int rank = static_cast<int>(index.shape.size());
  const int axis = normalize_axis(spec.attrs.integer("axis"), rank, spec.op.c_str());
  expect(spec, rows == index.shape && static_cast<int>(table.size()) == rank);
  IndexSpec s;
  s.value = in.dtype;
  s.index = index.dtype;
  s.size = table[axis];
  s.count = index.shape[axis];
  for (int d = 0; d < rank; ++d) {
    expect(spec, d == axis || table[d] == index.shape[d]);
    if (d != axis) (d < axis ? s.outer : s.inner) *= index.shape[d];
  }
  expect(spec, take || spec.attrs.integer("size") == s.size);
  return s;
}

void index_error(const char* op, int64_t value, int64_t position, int64_t low, int64_t size) {
  fail(ErrorKind::Index, "[", op, "] index ", value, " at position ", position, " is outside [", low, ", ", size, ")");
}

int64_t index_at(DType dtype, const void* indices, int64_t position) {
  const auto read = [&]<class T>(T value) {
    std::memcpy(&value, static_cast<const char*>(indices) + position * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return static_cast<int64_t>(value);
  };
  if (dtype == DType::I64) return read(int64_t{});
  if (dtype == DType::I32) return read(int32_t{});
  return dtype == DType::U8 ? read(uint8_t{}) : read(int8_t{});
}

void register_ref_index(Registry& r) {
  r.add("ref", 0, "take", bind_take);
  r.add("ref", 0, "take_along_axis", bind_take_along_axis);
  r.add("ref", 0, "scatter_add", bind_scatter);
  r.add("ref", 0, "scatter_along_axis", bind_scatter);
}

}  // namespace dlcore
