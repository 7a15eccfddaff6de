// Indexing ops as plain sizes, checked once for ref/ and cpu/.
#pragma once
#include <cstdint>

#include "kernels/registry.h"

namespace dlcore {

// take and scatter_add: `count` indices into `size` rows of `row` elements (size is x's, or scatter_add's attribute).
// take_along_axis and scatter_along_axis: the indexed axis has `size` entries, the index has `count` there; `outer` and
// `inner` are the products of the axes before and after it.
struct IndexSpec {
  int64_t size = 0, count = 0, row = 1;
  int64_t outer = 1, inner = 1;
  DType value, index;
};

IndexSpec row_index_spec(const KernelSpec& spec);   // take, scatter_add; throws Error(Value)
IndexSpec axis_index_spec(const KernelSpec& spec);  // take_along_axis, scatter_along_axis; throws Error(Value)

// Throws Error(Index) naming the flat position and the value there; low is the least allowed index.
[[noreturn]] void index_error(const char* op, int64_t value, int64_t position, int64_t low, int64_t size);
int64_t index_at(DType dtype, const void* indices, int64_t position);

}  // namespace dlcore
