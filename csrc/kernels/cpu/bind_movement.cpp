// Turns shape ops into strided copies with as few axes as possible and chooses how the inner axes move.
#include "kernels/movement_spec.h"

#if defined(__x86_64__)
#include "base/cpu.h"
#include "kernels/cpu/movement.h"

namespace dlcore {
namespace {

const MovementTable* table() {
  const Isa isa = current_isa();
  if (isa == Isa::Avx512) return &avx512::movement_table;
  return isa == Isa::Avx2 ? &avx2::movement_table : nullptr;
}

struct Axis {
  int64_t size, in, out;  // strides in units of the element
};

CopyArgs copy_args(const StridedCopy& c, int64_t element) {
  std::vector<Axis> axes;
  for (size_t d = 0; d < c.size.size(); ++d) {
    const Axis a{c.size[d], c.in_stride[d], c.out_stride[d]};
    if (a.size == 1) continue;
    if (!axes.empty() && axes.back().in == a.in * a.size && axes.back().out == a.out * a.size)
      axes.back() = {axes.back().size * a.size, a.in, a.out};
    else
      axes.push_back(a);
  }
  if (axes.empty()) axes.push_back({1, 1, 1});
  int64_t in_offset = c.in_offset, out_offset = c.out_offset;
  // A short run that stays together (two floats, three of …) moves as one wider element.
  const Axis run = axes.back();
  if (run.in == 1 && run.out == 1 && axes.size() > 1 && (run.size == 2 || run.size == 4 || run.size == 8) &&
      run.size * element <= 8) {
    bool whole = in_offset % run.size == 0 && out_offset % run.size == 0;
    for (size_t d = 0; d + 1 < axes.size(); ++d)
      whole = whole && axes[d].in % run.size == 0 && axes[d].out % run.size == 0;
    if (whole) {
      axes.pop_back();
      for (Axis& a : axes) a = {a.size, a.in / run.size, a.out / run.size};
      in_offset /= run.size;
      out_offset /= run.size;
      element *= run.size;
    }
  }
  CopyArgs args{};
  args.element = static_cast<int>(element);
  args.in_offset = in_offset * element;
  args.out_offset = out_offset * element;
  const Axis inner = axes.back();
  axes.pop_back();
  args.n = inner.size;
  args.in_step = inner.in * element;
  args.out_step = inner.out * element;
  args.mode = CopyArgs::kStrided;
  if (inner.out == 1 && inner.in == 1) args.mode = CopyArgs::kRows;
  if (inner.out == 1 && inner.in == 0) args.mode = CopyArgs::kFill;
  // A transpose needs an axis that is contiguous in the input, and at least a tile's width of it: three colours are
  // better read three times over.
  if (inner.out == 1 && args.mode == CopyArgs::kStrided)
    for (size_t d = axes.size(); d-- > 0;)
      if (axes[d].in == 1 && axes[d].size * element >= 16) {
        args.mode = CopyArgs::kTranspose;
        args.m = axes[d].size;
        args.out_row = axes[d].out * element;
        axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(d));
        break;
      }
  args.rank = static_cast<int>(axes.size());
  for (int d = 0; d < args.rank; ++d) {
    args.size[d] = axes[d].size;
    args.in_stride[d] = axes[d].in * element;
    args.out_stride[d] = axes[d].out * element;
  }
  return args;
}

BoundKernel bind_copy(const KernelSpec& spec) {
  const MovementTable* t = table();
  if (!t) return {};
  const CopyArgs args = copy_args(strided_copy(spec), static_cast<int64_t>(size_of(spec.inputs[0].dtype)));
  return {[t, args](const RunArgs& a) {
            if (a.in[0] == a.out[0]) return;  // a reshape in place
            t->copy(args, static_cast<const char*>(a.in[0]), static_cast<char*>(a.out[0]));
          },
          0,
          {}};
}

BoundKernel bind_pad(const KernelSpec& spec) {
  const MovementTable* t = table();
  if (!t) return {};
  const StridedCopy c = strided_copy(spec);
  const DType dtype = spec.inputs[0].dtype;
  const int64_t element = static_cast<int64_t>(size_of(dtype));
  uint64_t pattern = scalar_bits(spec.attrs.real("value"), dtype);
  for (int64_t bits = 8 * element; bits < 64; bits *= 2) pattern |= pattern << bits;
  const Shape& in = spec.inputs[0].shape;
  const Shape& out = spec.outputs[0].shape;
  bool gaps = false;
  for (size_t d = 0; d < in.size(); ++d) gaps = gaps || (spec.attrs.ints("interior")[d] > 0 && in[d] > 1);
  if (gaps) {
    const CopyArgs args = copy_args(c, element);
    const int64_t bytes = byte_size(spec.outputs[0]);
    return {[t, args, pattern, bytes](const RunArgs& a) {
              t->fill(pattern, bytes, static_cast<char*>(a.out[0]));
              t->copy(args, static_cast<const char*>(a.in[0]), static_cast<char*>(a.out[0]));
            },
            0,
            {}};
  }
  PadArgs args{};
  args.element = static_cast<int>(element);
  args.pattern = pattern;
  for (size_t d = 0; d < in.size(); ++d) {
    const int64_t low = spec.attrs.ints("low")[d];
    if (args.rank > 0 && in[d] == out[d]) {  // an axis without padding is part of the one before
      args.in_size[args.rank - 1] *= in[d];
      args.low[args.rank - 1] *= in[d];
      args.out_size[args.rank - 1] *= in[d];
      continue;
    }
    args.in_size[args.rank] = in[d];
    args.low[args.rank] = low;
    args.out_size[args.rank++] = out[d];
  }
  if (args.rank == 0) {
    args.rank = 1;
    args.in_size[0] = args.out_size[0] = 1;
  }
  return {
      [t, args](const RunArgs& a) { t->pad(args, static_cast<const char*>(a.in[0]), static_cast<char*>(a.out[0])); },
      0,
      {}};
}

BoundKernel bind_concat(const KernelSpec& spec) {
  const MovementTable* t = table();
  if (!t) return {};
  const int axis = concat_axis(spec);
  const Shape& shape = spec.outputs[0].shape;
  const int64_t element = static_cast<int64_t>(size_of(spec.outputs[0].dtype));
  int64_t outer = 1, inner = 1, at = 0;
  for (int d = 0; d < axis; ++d) outer *= shape[d];
  for (size_t d = axis + 1; d < shape.size(); ++d) inner *= shape[d];
  std::vector<CopyArgs> parts;
  for (const TensorType& type : spec.inputs) {
    const int64_t row = type.shape[axis] * inner;
    parts.push_back(copy_args({{outer, row}, {row, 1}, {shape[axis] * inner, 1}, 0, at}, element));
    at += row;
  }
  return {[t, parts](const RunArgs& a) {
            for (size_t i = 0; i < parts.size(); ++i)
              t->copy(parts[i], static_cast<const char*>(a.in[i]), static_cast<char*>(a.out[0]));
          },
          0,
          {}};
}

}  // namespace

void register_cpu_movement(Registry& r) {
  for (const char* op : {"reshape", "transpose", "broadcast_to", "reverse", "slice"}) r.add("cpu", 10, op, bind_copy);
  r.add("cpu", 10, "pad", bind_pad);
  r.add("cpu", 10, "concat", bind_concat);
}

}  // namespace dlcore

#else

namespace dlcore {
void register_cpu_movement(Registry&) {}
}  // namespace dlcore

#endif
