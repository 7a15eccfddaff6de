// What a kernel that graphs of files can reach says of types and attributes that do not fit together.
#pragma once
#include <string>

#include "base/error.h"
#include "kernels/registry.h"

namespace dlcore {

inline void expect(const KernelSpec& spec, bool ok) {
  if (ok) return;
  std::string types;
  for (const TensorType& t : spec.inputs) types += (types.empty() ? "" : ", ") + to_string(t);
  types += " →";
  for (const TensorType& t : spec.outputs) types += " " + to_string(t);
  fail(ErrorKind::Value, "[", spec.op, "] types and attributes ", to_string(spec.attrs),
       " do not go together: ", types);
}

}  // namespace dlcore
