// Products of matrices.
#include "ops/define.h"

namespace dlcore {

namespace {

Types infer_matmul(Call& c) {
  c.want_same_dtype(0, 1);
  if (c.dtype(0) != DType::BF16) c.want_real(0, "the first input");
  const bool ta = c.flag("transpose_a"), tb = c.flag("transpose_b");
  for (size_t i = 0; i < 2; ++i)
    c.check(c.rank(i) >= 2, "inputs should have at least 2 dimensions: ", to_string(c.shape(0)), " @ ",
            to_string(c.shape(1)));
  const int ra = c.rank(0), rb = c.rank(1);
  const int64_t m = c.size(0, ta ? ra - 1 : ra - 2), k = c.size(0, ta ? ra - 2 : ra - 1);
  const int64_t kb = c.size(1, tb ? rb - 1 : rb - 2), n = c.size(1, tb ? rb - 2 : rb - 1);
  c.check(k == kb, "inner sizes differ: ", to_string(c.shape(0)), ta ? ".T" : "", " @ ", to_string(c.shape(1)),
          tb ? ".T" : "");
  const Shape lead_a(c.shape(0).begin(), c.shape(0).end() - 2), lead_b(c.shape(1).begin(), c.shape(1).end() - 2);
  Shape out = broadcast(lead_a, lead_b, "matmul");
  out.push_back(m);
  out.push_back(n);
  return {{c.dtype(0), std::move(out)}};
}

ValueId flatten_rows(Builder& b, ValueId v) {
  const Shape shape = b.shape(v);
  return b.reshape(v, {numel(shape) / std::max<int64_t>(shape.back(), 1), shape.back()});
}

Ids grad_matmul(Builder& b, const Node& n, const Ids& dys) {
  const ValueId x = n.inputs[0], y = n.inputs[1], dy = dys[0];
  const bool ta = n.attrs.integer_or("transpose_a", 0) != 0, tb = n.attrs.integer_or("transpose_b", 0) != 0;
  const ValueId dx = ta ? b.matmul(y, dy, tb, true) : b.matmul(dy, y, false, !tb);
  ValueId rows_x = x, rows_dy = dy;
  // One matrix shared by a batch: the sum over the batch is one long product rather than many products to be added.
  const Shape shape = b.shape(x);
  if (b.rank(y) == 2 && shape.size() > 2 && !ta && shape.back() > 0 && b.shape(dy).back() > 0) {
    rows_x = flatten_rows(b, x);
    rows_dy = flatten_rows(b, dy);
  }
  const ValueId dz = tb ? b.matmul(rows_dy, rows_x, true, ta) : b.matmul(rows_x, rows_dy, !ta, false);
  return {b.sum_to(dx, b.shape(x)), b.sum_to(dz, b.shape(y))};
}

}  // namespace

void register_contract_ops() { register_op(define<"matmul", infer_matmul, grad_matmul>(2)); }

}  // namespace dlcore
