// Naive pooling in both layouts, and the checks shared with cpu/.
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "kernels/index_spec.h"
#include "kernels/pool_spec.h"
#include "kernels/ref/expect.h"

namespace dlcore {
namespace {

// Two values of an attribute, each in [low, 2^30]: products with sizes then stay far from overflow.
void read_pair(const KernelSpec& spec, const char* name, int64_t low, int64_t& a, int64_t& b) {
  const IntList& list = spec.attrs.ints(name);
  expect(spec, list.size() == 2);
  a = list[0];
  b = list[1];
  for (int64_t v : list)
    DLCORE_CHECK(v >= low && v <= (1 << 30), Value, "[", spec.op, "] ", name, " must be at least ", low, ", got ", v);
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

// Offsets of (n, c, row, column) in an image and in the output, in either layout.
int64_t at_in(const PoolArgs& a, int64_t n, int64_t c, int64_t y, int64_t x) {
  return a.nhwc ? ((n * a.h + y) * a.w + x) * a.c + c : ((n * a.c + c) * a.h + y) * a.w + x;
}
int64_t at_out(const PoolArgs& a, int64_t n, int64_t c, int64_t y, int64_t x) {
  return a.nhwc ? ((n * a.oh + y) * a.ow + x) * a.c + c : ((n * a.c + c) * a.oh + y) * a.ow + x;
}

template <class F>
void each_output(const PoolArgs& a, F&& body) {
  for (int64_t n = 0; n < a.n; ++n)
    for (int64_t c = 0; c < a.c; ++c)
      for (int64_t y = 0; y < a.oh; ++y)
        for (int64_t x = 0; x < a.ow; ++x) body(n, c, y, x);
}

// Calls body(row, column) for the taps inside the image, in row-major order.
template <class F>
void each_tap(const PoolArgs& a, int64_t y, int64_t x, F&& body) {
  const int64_t y0 = y * a.sh - a.top, x0 = x * a.sw - a.left;
  const TapRange rows = taps(y0, a.h, a.kh, a.dh), columns = taps(x0, a.w, a.kw, a.dw);
  for (int64_t i = rows.first; i < rows.last; ++i)
    for (int64_t j = columns.first; j < columns.last; ++j) body(y0 + i * a.dh, x0 + j * a.dw);
}

template <class T>
T divisor(const PoolArgs& a, int64_t y, int64_t x) {
  const int64_t count = counted(y * a.sh - a.top, a.h, a.kh, a.bottom, a.include_pad) *
                        counted(x * a.sw - a.left, a.w, a.kw, a.right, a.include_pad);
  return static_cast<T>(count > 0 ? count : 1);
}

template <class T>
void max_pool(const PoolArgs& a, const RunArgs& r) {
  each_output(a, [&](int64_t n, int64_t c, int64_t y, int64_t x) {
    T best = -std::numeric_limits<T>::infinity();
    int32_t index = -1;  // stays so for a window wholly in the padding
    each_tap(a, y, x, [&](int64_t i, int64_t j) {
      const T v = read<T>(r.in[0], at_in(a, n, c, i, j));
      if (index >= 0 && !(v > best) && !(std::isnan(v) && !std::isnan(best))) return;
      best = v;
      index = static_cast<int32_t>(i * a.w + j);
    });
    write<T>(r.out[0], at_out(a, n, c, y, x), best);
    write<int32_t>(r.out[1], at_out(a, n, c, y, x), index);
  });
}

int64_t read_index(const char* op, const PoolArgs& a, const void* indices, int64_t position) {
  const int64_t index = read<int32_t>(indices, position);
  if (index < -1 || index >= a.h * a.w) index_error(op, index, position, 0, a.h * a.w);
  return index;
}

template <class T>
void max_pool_backward(const PoolArgs& a, const RunArgs& r) {
  for (int64_t i = 0; i < a.n * a.c * a.h * a.w; ++i) write<T>(r.out[0], i, 0);
  each_output(a, [&](int64_t n, int64_t c, int64_t y, int64_t x) {
    const int64_t from = at_out(a, n, c, y, x);
    const int64_t index = read_index("max_pool2d_backward", a, r.in[1], from);
    if (index < 0) return;
    const int64_t to = at_in(a, n, c, index / a.w, index % a.w);
    write<T>(r.out[0], to, read<T>(r.out[0], to) + read<T>(r.in[0], from));
  });
}

template <class T>
void max_pool_gather(const PoolArgs& a, const RunArgs& r) {
  each_output(a, [&](int64_t n, int64_t c, int64_t y, int64_t x) {
    const int64_t to = at_out(a, n, c, y, x);
    const int64_t index = read_index("max_pool2d_gather", a, r.in[1], to);
    write<T>(r.out[0], to, index < 0 ? T{0} : read<T>(r.in[0], at_in(a, n, c, index / a.w, index % a.w)));
  });
}

template <class T>
void avg_pool(const PoolArgs& a, const RunArgs& r) {
  each_output(a, [&](int64_t n, int64_t c, int64_t y, int64_t x) {
    T sum = 0;
    each_tap(a, y, x, [&](int64_t i, int64_t j) { sum += read<T>(r.in[0], at_in(a, n, c, i, j)); });
    write<T>(r.out[0], at_out(a, n, c, y, x), sum / divisor<T>(a, y, x));
  });
}

template <class T>
void avg_pool_backward(const PoolArgs& a, const RunArgs& r) {
  for (int64_t i = 0; i < a.n * a.c * a.h * a.w; ++i) write<T>(r.out[0], i, 0);
  each_output(a, [&](int64_t n, int64_t c, int64_t y, int64_t x) {
    const T share = read<T>(r.in[0], at_out(a, n, c, y, x)) / divisor<T>(a, y, x);
    each_tap(a, y, x, [&](int64_t i, int64_t j) {
      const int64_t to = at_in(a, n, c, i, j);
      write<T>(r.out[0], to, read<T>(r.out[0], to) + share);
    });
  });
}

template <class T>
BoundKernel kernel(const KernelSpec& spec) {
  const PoolArgs a = pool_args(spec);
  void (*run)(const PoolArgs&, const RunArgs&) = spec.op == "max_pool2d"            ? max_pool<T>
                                                 : spec.op == "max_pool2d_backward" ? max_pool_backward<T>
                                                 : spec.op == "max_pool2d_gather"   ? max_pool_gather<T>
                                                 : spec.op == "avg_pool2d"          ? avg_pool<T>
                                                                                    : avg_pool_backward<T>;
  return {[a, run](const RunArgs& r) { run(a, r); }, 0, {}};
}

BoundKernel bind_pool(const KernelSpec& spec) {
  if (spec.inputs.empty()) return {};
  if (spec.inputs[0].dtype == DType::F32) return kernel<float>(spec);
  if (spec.inputs[0].dtype == DType::F64) return kernel<double>(spec);
  return {};
}

}  // namespace

PoolArgs pool_args(const KernelSpec& spec) {
  const bool window = spec.op == "max_pool2d" || spec.op == "avg_pool2d" || spec.op == "avg_pool2d_backward";
  const bool max = spec.op.starts_with("max_pool2d"), backward = spec.op.ends_with("_backward");
  expect(spec, spec.inputs.size() == (max && !window ? 2u : 1u) && spec.outputs.size() == (max && window ? 2u : 1u));
  const TensorType& image = backward ? spec.outputs[0] : spec.inputs[0];
  const TensorType& out = backward ? spec.inputs[0] : spec.outputs[0];
  expect(spec, image.dtype == out.dtype && image.shape.size() == 4 && out.shape.size() == 4);
  if (max) expect(spec, (window ? spec.outputs[1] : spec.inputs[1]) == (TensorType{DType::I32, out.shape}));
  const std::string& layout = spec.attrs.text("layout");
  DLCORE_CHECK(layout == "nchw" || layout == "nhwc", Value, "[", spec.op,
               "] layout must be \"nchw\" or \"nhwc\", got \"", layout, "\"");
  PoolArgs a{};
  a.nhwc = layout == "nhwc";
  const int channel = a.nhwc ? 3 : 1, row = a.nhwc ? 1 : 2;
  a.n = image.shape[0];
  a.c = image.shape[channel];
  a.h = image.shape[row];
  a.w = image.shape[row + 1];
  a.oh = out.shape[row];
  a.ow = out.shape[row + 1];
  expect(spec, out.shape[0] == a.n && out.shape[channel] == a.c);
  constexpr int64_t limit = 1 << 30;
  expect(spec, a.h <= limit && a.w <= limit && a.oh <= limit && a.ow <= limit && a.h * a.w <= INT32_MAX);
  if (backward) expect(spec, spec.attrs.ints("input_size") == IntList{a.h, a.w});
  a.dh = a.dw = 1;
  if (!window) return a;
  read_pair(spec, "kernel", 1, a.kh, a.kw);
  read_pair(spec, "stride", 1, a.sh, a.sw);
  if (max && spec.attrs.has("dilation")) read_pair(spec, "dilation", 1, a.dh, a.dw);
  const IntList& padding = spec.attrs.ints("padding");
  expect(spec, padding.size() == 4);
  for (int64_t p : padding)
    DLCORE_CHECK(p >= 0 && p <= limit, Value, "[", spec.op, "] padding must not be negative, got ", p);
  a.top = padding[0];
  a.bottom = padding[1];
  a.left = padding[2];
  a.right = padding[3];
  a.include_pad = !max && spec.attrs.integer_or("count_include_pad", 1) != 0;
  return a;
}

void register_ref_pool(Registry& r) {
  for (const char* op : {"max_pool2d", "max_pool2d_backward", "max_pool2d_gather", "avg_pool2d", "avg_pool2d_backward"})
    r.add("ref", 0, op, bind_pool);
}

}  // namespace dlcore
