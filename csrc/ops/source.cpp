// Sources: values that come of attributes alone.
#include <cmath>

#include "ops/define.h"

namespace dlcore {

namespace {

Types infer_full(Call& c) {
  const double value = c.real("value");
  const DType dtype = c.dtype_attr("dtype");
  c.check(is_float(dtype) || std::isfinite(value), "the value ", value, " does not fit ", name_of(dtype));
  return {{dtype, c.shape_attr("shape")}};
}

Types infer_iota(Call& c) {
  const DType dtype = c.dtype_attr("dtype");
  c.check(dtype != DType::Bool, "dtype should be a number's, got bool");
  return {{dtype, {c.integer("size", 0)}}};
}

}  // namespace

void register_source_ops() {
  register_op(define<"full", infer_full>(0, kZeroGrad));
  register_op(define<"iota", infer_iota>(0, kZeroGrad));
}

}  // namespace dlcore
