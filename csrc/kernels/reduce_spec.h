// A reduction as its kernels want it: axes of size 1 dropped, neighbours of one kind merged.
#pragma once
#include <algorithm>
#include <vector>

#include "kernels/registry.h"

namespace dlcore {

struct ReduceAxis {
  int64_t size, stride;  // in elements
};

struct ReduceSpec {
  // Ascending; the last axis is in `tail` when it is reduced (tail elements, contiguous), else in `inner`.
  std::vector<ReduceAxis> kept, reduced;
  int64_t tail = 1, inner = 1;
  bool last_reduced = false;
  bool identity = false;  // no axis is reduced: a copy
  int64_t outputs = 1;    // all of them, `inner` included
  int64_t count = 1;      // elements an output, `tail` not included
};

inline ReduceSpec reduce_spec(const KernelSpec& spec) {
  const Shape& shape = spec.inputs[0].shape;
  const int rank = static_cast<int>(shape.size());
  std::vector<bool> gone(shape.size(), false);
  for (int64_t axis : spec.attrs.ints("axes"))
    gone[static_cast<size_t>(normalize_axis(axis, rank, spec.op.c_str()))] = true;
  ReduceSpec r;
  r.identity = std::find(gone.begin(), gone.end(), true) == gone.end();
  const std::vector<int64_t> strides = row_major_strides(shape);
  // Of the last axis, whatever its size: the order of a sum hangs on whether it is reduced.
  r.last_reduced = rank > 0 && gone.back();
  size_t end = shape.size();
  while (end > 0 && gone[end - 1] == r.last_reduced) {
    --end;
    (r.last_reduced ? r.tail : r.inner) *= shape[end];
  }
  for (size_t d = 0; d < end; ++d) {
    (gone[d] ? r.count : r.outputs) *= shape[d];
    std::vector<ReduceAxis>& axes = gone[d] ? r.reduced : r.kept;
    if (shape[d] == 1) continue;
    if (!axes.empty() && axes.back().stride == strides[d] * shape[d])
      axes.back() = {axes.back().size * shape[d], strides[d]};
    else
      axes.push_back({shape[d], strides[d]});
  }
  r.outputs *= r.inner;
  return r;
}

// The offset of the i-th element, row-major, over some axes.
inline int64_t axes_offset(const std::vector<ReduceAxis>& axes, int64_t i) {
  int64_t offset = 0;
  for (size_t d = axes.size(); d-- > 0;) {
    offset += i % axes[d].size * axes[d].stride;
    i /= axes[d].size;
  }
  return offset;
}

}  // namespace dlcore
