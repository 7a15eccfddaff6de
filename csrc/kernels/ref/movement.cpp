// Naive reshape, transpose, broadcast_to, reverse, slice, pad and concat for every dtype, and the checks shared with
// cpu/.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "kernels/movement_spec.h"

namespace dlcore {
namespace {

void expect_count(const KernelSpec& spec, size_t inputs, size_t outputs) {
  DLCORE_CHECK(spec.inputs.size() == inputs && spec.outputs.size() == outputs, Value, "[", spec.op, "] expected ",
               inputs, " inputs and ", outputs, " outputs, got ", spec.inputs.size(), " and ", spec.outputs.size());
}

void expect_output(const KernelSpec& spec, const Shape& shape) {
  const TensorType want{spec.inputs[0].dtype, shape};
  DLCORE_CHECK(spec.outputs[0] == want, Value, "[", spec.op, "] output should be ", to_string(want), ", got ",
               to_string(spec.outputs[0]));
}

const IntList& axis_list(const KernelSpec& spec, const char* name, size_t rank) {
  const IntList& list = spec.attrs.ints(name);
  DLCORE_CHECK(list.size() == rank, Value, "[", spec.op, "] ", name, " has ", list.size(), " entries for ", rank,
               " axes of ", to_string(spec.inputs[0].shape));
  return list;
}

template <class T>
uint64_t bits_of(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
uint64_t integer_bits(double value) {
  if (std::isnan(value)) return 0;
  constexpr double low = static_cast<double>(std::numeric_limits<T>::min());
  constexpr double high = static_cast<double>(std::numeric_limits<T>::max());
  if (value <= low) return bits_of(std::numeric_limits<T>::min());
  if (value >= high) return bits_of(std::numeric_limits<T>::max());
  return bits_of(static_cast<T>(value));
}

// A 16-bit float with `mantissa` explicit bits and exponent range [min_exponent, bias]: rounded once, to nearest even.
uint64_t small_float_bits(double value, int mantissa, int bias) {
  const uint64_t sign = std::signbit(value) ? 0x8000u : 0;
  const uint64_t infinity = static_cast<uint64_t>(2 * bias + 1) << mantissa;
  if (std::isnan(value)) return sign | infinity | (uint64_t{1} << (mantissa - 1));
  double a = std::fabs(value);
  if (a == 0) return sign;
  if (std::isinf(a)) return sign | infinity;
  const int exponent = std::max(std::ilogb(a), 1 - bias);
  // In units of the last place; a carry into the next exponent comes out right because the fields are adjacent.
  const double units = std::nearbyint(std::ldexp(a, mantissa - exponent));
  if (exponent > bias) return sign | infinity;
  const uint64_t field = static_cast<uint64_t>(units) + (static_cast<uint64_t>(exponent + bias - 1) << mantissa);
  return sign | std::min(field, infinity);
}

template <class T>
void copy_elements(const StridedCopy& c, const void* in, void* out) {
  if (numel(c.size) == 0) return;
  const char* src = static_cast<const char*>(in) + c.in_offset * static_cast<int64_t>(sizeof(T));
  char* dst = static_cast<char*>(out) + c.out_offset * static_cast<int64_t>(sizeof(T));
  const int rank = static_cast<int>(c.size.size());
  int64_t at[kMaxRank] = {}, from = 0, to = 0;
  while (true) {
    std::memcpy(dst + to * static_cast<int64_t>(sizeof(T)), src + from * static_cast<int64_t>(sizeof(T)), sizeof(T));
    int d = rank - 1;
    for (; d >= 0; --d) {
      from += c.in_stride[d];
      to += c.out_stride[d];
      if (++at[d] < c.size[d]) break;
      from -= c.in_stride[d] * c.size[d];
      to -= c.out_stride[d] * c.size[d];
      at[d] = 0;
    }
    if (d < 0) return;
  }
}

void copy(const StridedCopy& c, size_t element, const void* in, void* out) {
  if (element == 1) copy_elements<uint8_t>(c, in, out);
  if (element == 2) copy_elements<uint16_t>(c, in, out);
  if (element == 4) copy_elements<uint32_t>(c, in, out);
  if (element == 8) copy_elements<uint64_t>(c, in, out);
}

BoundKernel bind_copy(const KernelSpec& spec) {
  const StridedCopy c = strided_copy(spec);
  const size_t element = size_of(spec.inputs[0].dtype);
  return {[c, element](const RunArgs& a) {
            if (a.in[0] != a.out[0]) copy(c, element, a.in[0], a.out[0]);  // equal for a reshape in place
          },
          0,
          {}};
}

BoundKernel bind_pad(const KernelSpec& spec) {
  const StridedCopy c = strided_copy(spec);
  const size_t element = size_of(spec.inputs[0].dtype);
  const uint64_t value = scalar_bits(spec.attrs.real("value"), spec.inputs[0].dtype);
  const int64_t total = numel(spec.outputs[0].shape);
  return {[c, element, value, total](const RunArgs& a) {
            char* out = static_cast<char*>(a.out[0]);
            for (int64_t i = 0; i < total; ++i) std::memcpy(out + i * static_cast<int64_t>(element), &value, element);
            copy(c, element, a.in[0], a.out[0]);
          },
          0,
          {}};
}

BoundKernel bind_concat(const KernelSpec& spec) {
  const int axis = concat_axis(spec);
  const int64_t element = static_cast<int64_t>(size_of(spec.outputs[0].dtype));
  const Shape& shape = spec.outputs[0].shape;
  int64_t outer = 1, inner = element;
  for (int d = 0; d < axis; ++d) outer *= shape[d];
  for (size_t d = axis + 1; d < shape.size(); ++d) inner *= shape[d];
  IntList rows;  // bytes an input contributes to each outer index
  for (const TensorType& t : spec.inputs) rows.push_back(t.shape[axis] * inner);
  return {[rows, outer](const RunArgs& a) {
            char* out = static_cast<char*>(a.out[0]);
            for (int64_t o = 0; o < outer; ++o)
              for (size_t i = 0; i < rows.size(); ++i) {
                if (rows[i] > 0) std::memcpy(out, static_cast<const char*>(a.in[i]) + o * rows[i], rows[i]);
                out += rows[i];
              }
          },
          0,
          {}};
}

}  // namespace

StridedCopy strided_copy(const KernelSpec& spec) {
  expect_count(spec, 1, 1);
  const Shape& in = spec.inputs[0].shape;
  const Shape& out = spec.outputs[0].shape;
  const int rank = static_cast<int>(in.size());
  DLCORE_CHECK(rank <= kMaxRank && static_cast<int>(out.size()) <= kMaxRank, Value, "[", spec.op, "] more than ",
               kMaxRank, " axes: ", to_string(in), " → ", to_string(out));
  StridedCopy c;
  c.size = in;
  c.in_stride = row_major_strides(in);
  c.out_stride = row_major_strides(out);
  if (spec.op == "reshape" || spec.op == "copy" || spec.op == "stop_gradient") {
    DLCORE_CHECK(numel(in) == numel(out) && spec.inputs[0].dtype == spec.outputs[0].dtype, Value, "[", spec.op,
                 "] sizes differ: ", to_string(spec.inputs[0]), " → ", to_string(spec.outputs[0]));
    c.size = {numel(in)};
    c.in_stride = c.out_stride = {1};
  } else if (spec.op == "transpose") {
    const IntList& perm = axis_list(spec, "perm", rank);
    const IntList strides = c.in_stride;
    uint32_t seen = 0;
    for (int d = 0; d < rank; ++d) {
      const int axis = normalize_axis(perm[d], rank, "transpose");
      DLCORE_CHECK(!(seen >> axis & 1), Value, "[transpose] perm names axis ", axis, " twice");
      seen |= 1u << axis;
      c.size[d] = in[axis];
      c.in_stride[d] = strides[axis];
    }
    expect_output(spec, c.size);
  } else if (spec.op == "broadcast_to") {
    const int lead = static_cast<int>(out.size()) - rank;
    bool fits = lead >= 0 && spec.inputs[0].dtype == spec.outputs[0].dtype;
    IntList strides(out.size(), 0);
    for (int d = 0; fits && d < rank; ++d) {
      fits = in[d] == out[d + lead] || in[d] == 1;
      strides[d + lead] = in[d] == 1 ? 0 : c.in_stride[d];
    }
    DLCORE_CHECK(fits, Value, "[broadcast_to] ", to_string(spec.inputs[0]), " does not broadcast to ",
                 to_string(spec.outputs[0]));
    c.size = out;
    c.in_stride = strides;
  } else if (spec.op == "reverse") {
    expect_output(spec, in);
    uint32_t seen = 0;
    for (int64_t a : spec.attrs.ints("axes")) {
      const int axis = normalize_axis(a, rank, "reverse");
      DLCORE_CHECK(!(seen >> axis & 1), Value, "[reverse] axes names axis ", axis, " twice");
      seen |= 1u << axis;
      c.in_offset += (in[axis] - 1) * c.in_stride[axis];
      c.in_stride[axis] = -c.in_stride[axis];
    }
    if (numel(in) == 0) c.in_offset = 0;
  } else if (spec.op == "slice") {
    const IntList& start = axis_list(spec, "start", rank);
    const IntList& stop = axis_list(spec, "stop", rank);
    const IntList& step = axis_list(spec, "step", rank);
    for (int d = 0; d < rank; ++d) {
      DLCORE_CHECK(0 <= start[d] && start[d] <= stop[d] && stop[d] <= in[d] && step[d] >= 1, Value, "[slice] axis ", d,
                   " of size ", in[d], " cannot be cut as ", start[d], ":", stop[d], ":", step[d]);
      c.size[d] = stop[d] == start[d] ? 0 : (stop[d] - start[d] - 1) / step[d] + 1;
      c.in_offset += start[d] * c.in_stride[d];
      if (c.size[d] > 1) c.in_stride[d] *= step[d];  // a huge step keeps one element: its stride is never used
    }
    expect_output(spec, c.size);
  } else {
    DLCORE_CHECK(spec.op == "pad", Value, "[", spec.op, "] is not a movement op");
    const IntList& low = axis_list(spec, "low", rank);
    const IntList& high = axis_list(spec, "high", rank);
    const IntList& interior = axis_list(spec, "interior", rank);
    bool fits = static_cast<int>(out.size()) == rank && spec.inputs[0].dtype == spec.outputs[0].dtype;
    for (int d = 0; fits && d < rank; ++d) {
      DLCORE_CHECK(low[d] >= 0 && high[d] >= 0 && interior[d] >= 0, Value, "[pad] axis ", d,
                   ": low, high and interior must not be negative, got ", low[d], ", ", high[d], ", ", interior[d]);
      const int64_t gaps = in[d] > 1 ? in[d] - 1 : 0;
      // By subtraction and division: hostile sizes must not overflow.
      int64_t rest = out[d] - in[d];
      fits = rest >= 0 && (gaps == 0 || interior[d] <= rest / gaps);
      if (fits) rest -= gaps * interior[d];
      fits = fits && low[d] <= rest && rest - low[d] == high[d];
      if (!fits) break;
      c.out_offset += low[d] * c.out_stride[d];
      if (in[d] > 1) c.out_stride[d] *= interior[d] + 1;
    }
    DLCORE_CHECK(fits, Value, "[pad] ", to_string(spec.inputs[0]), " padded does not give ",
                 to_string(spec.outputs[0]));
  }
  return c;
}

int concat_axis(const KernelSpec& spec) {
  DLCORE_CHECK(!spec.inputs.empty() && spec.outputs.size() == 1, Value, "[concat] expected at least one input");
  const TensorType& out = spec.outputs[0];
  const int rank = static_cast<int>(out.shape.size());
  const int axis = normalize_axis(spec.attrs.integer("axis"), rank, "concat");
  int64_t total = 0;
  for (const TensorType& t : spec.inputs) {
    bool fits = t.dtype == out.dtype && static_cast<int>(t.shape.size()) == rank;
    for (int d = 0; fits && d < rank; ++d) fits = d == axis || t.shape[d] == out.shape[d];
    DLCORE_CHECK(fits, Value, "[concat] ", to_string(t), " does not fit into ", to_string(out), " along axis ", axis);
    total += t.shape[axis];
  }
  DLCORE_CHECK(total == out.shape[axis], Value, "[concat] axis ", axis, " adds up to ", total, ", the output is ",
               to_string(out));
  return axis;
}

uint64_t scalar_bits(double value, DType dtype) {
  switch (dtype) {
    case DType::F32:
      return bits_of(static_cast<float>(value));
    case DType::F64:
      return bits_of(value);
    case DType::BF16:
      return small_float_bits(value, 7, 127);
    case DType::F16:
      return small_float_bits(value, 10, 15);
    case DType::I8:
      return integer_bits<int8_t>(value);
    case DType::U8:
      return integer_bits<uint8_t>(value);
    case DType::I32:
      return integer_bits<int32_t>(value);
    case DType::I64:
      return integer_bits<int64_t>(value);
    case DType::Bool:
      return value != 0;
  }
  return 0;
}

void register_ref_movement(Registry& r) {
  for (const char* op : {"reshape", "transpose", "broadcast_to", "reverse", "slice"}) r.add("ref", 0, op, bind_copy);
  r.add("ref", 0, "pad", bind_pad);
  r.add("ref", 0, "concat", bind_concat);
}

}  // namespace dlcore
