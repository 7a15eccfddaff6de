#include "kernels/attention_spec.h"

#include <string_view>

namespace dlcore {

namespace {

HeadRows rows_of(const IntList& view) { return {view.at(0), view.at(1), view.at(2), view.at(3)}; }

}  // namespace

AttentionSpec attention_spec(const KernelSpec& spec) {
  const std::string_view op = spec.op;
  const bool backward = op.ends_with("_backward"), strided = op.starts_with("attention_strided");
  AttentionSpec s = {};
  s.scale = spec.attrs.real("scale");
  s.causal = spec.attrs.integer_or("causal", 0) != 0;
  if (strided) {
    const IntList& sizes = spec.attrs.ints("sizes");
    s.batch = sizes.at(0), s.heads = sizes.at(1), s.queries = sizes.at(2), s.keys = sizes.at(3), s.width = sizes.at(4);
    s.q = rows_of(spec.attrs.ints("q"));
    s.k = rows_of(spec.attrs.ints("k"));
    s.v = rows_of(spec.attrs.ints("v"));
    s.out = rows_of(spec.attrs.ints("out"));
    if (backward) {
      s.dout = rows_of(spec.attrs.ints("dout"));
      s.dq = rows_of(spec.attrs.ints("dq"));
      s.dk = rows_of(spec.attrs.ints("dk"));
      s.dv = rows_of(spec.attrs.ints("dv"));
      const IntList& into = spec.attrs.ints("into");
      for (size_t i = 0; i < 3; ++i) s.into[i] = static_cast<int>(into.at(i));
    }
  } else {
    const Shape &q = spec.inputs[backward ? 1 : 0].shape, &k = spec.inputs[backward ? 2 : 1].shape;
    s.batch = q[0], s.heads = q[1], s.queries = q[2], s.keys = k[2], s.width = q[3];
    const auto dense = [&](int64_t rows) { return HeadRows{0, s.heads * rows * s.width, rows * s.width, s.width}; };
    s.q = s.out = s.dout = s.dq = dense(s.queries);
    s.k = s.v = s.dk = s.dv = dense(s.keys);
    for (int i = 0; i < 3; ++i) s.into[i] = i;
  }
  const size_t mask = backward ? 6 : 3;
  s.mask = spec.inputs.size() > mask ? static_cast<int>(mask) : -1;
  if (s.mask >= 0) {
    const Shape& m = spec.inputs[mask].shape;
    s.mask_rows = {0, m[0] == 1 ? 0 : m[1] * m[2] * s.keys, m[1] == 1 ? 0 : m[2] * s.keys, m[2] == 1 ? 0 : s.keys};
  }
  return s;
}

}  // namespace dlcore
