// Around a Program: one op at a time, optimisation with the kernels at hand for folding, freezing, loaded backends.
#include <dlfcn.h>

#include "base/alloc.h"
#include "base/error.h"
#include "ops/op.h"
#include "passes/passes.h"
#include "runtime/program.h"

namespace dlcore {

namespace {

std::vector<Tensor> evaluate(std::string_view op, const Attrs& attrs, const std::vector<Tensor>& inputs,
                             const std::vector<TensorType>& types, std::string_view backend) {
  KernelSpec spec{std::string(op), {}, types, attrs};
  std::vector<const void*> in;
  for (const Tensor& t : inputs) {
    spec.inputs.push_back(t.type());
    in.push_back(t.data());
  }
  if (get_op(op).flags & kView) return {inputs[0].reshaped(types[0].shape)};
  const BoundKernel kernel = registry().bind(spec, backend);
  std::vector<Tensor> outputs;
  std::vector<void*> out;
  for (const TensorType& type : types) {
    outputs.emplace_back(type);
    out.push_back(outputs.back().data());
  }
  const Buffer workspace(kernel.workspace);
  kernel.run({in.data(), out.data(), workspace.data()});
  return outputs;
}

}  // namespace

std::vector<Tensor> run_op(std::string_view op, const std::vector<Tensor>& inputs, const Attrs& attrs,
                           std::string_view backend) {
  std::vector<TensorType> types;
  for (const Tensor& t : inputs) types.push_back(t.type());
  return evaluate(op, attrs, inputs, infer_types(get_op(op), types, attrs), backend);
}

Graph optimize(Graph graph, const std::vector<std::string>* passes) {
  const Evaluator evaluator = [](const Node& n, const std::vector<Tensor>& inputs,
                                 const std::vector<TensorType>& types) {
    return evaluate(n.op, n.attrs, inputs, types, {});
  };
  return run_passes(std::move(graph), passes ? *passes : default_passes(), evaluator);
}

Graph freeze(const Graph& graph, const std::map<std::string, Tensor>& values) {
  Graph frozen = graph;
  frozen.updates.clear();
  size_t found = 0;
  for (Leaf& leaf : frozen.leaves) {
    if (leaf.role != Role::Param && leaf.role != Role::State) continue;
    const auto it = values.find(leaf.name);
    if (it == values.end()) continue;
    DLCORE_CHECK(it->second.type() == frozen.type(leaf.value), Value, "'", leaf.name, "' should be ",
                 to_string(frozen.type(leaf.value)), ", got ", to_string(it->second.type()));
    leaf.role = Role::Const;
    leaf.data = it->second.clone();
    ++found;
  }
  DLCORE_CHECK(found == values.size(), Key, "freeze: ", values.size() - found,
               " of the names given are no parameter or state of the graph");
  return frozen;
}

void load_backend(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  DLCORE_CHECK(library, Io, "cannot load the backend '", path, "': ", dlerror());
  using Entry = int (*)(Registry*);
  const auto entry = reinterpret_cast<Entry>(dlsym(library, kBackendEntry));
  DLCORE_CHECK(entry, Io, "'", path, "' has no function ", kBackendEntry);
  const int status = entry(&registry());
  DLCORE_CHECK(status == 0, Io, "the backend '", path, "' refused to register: status ", status);
}

}  // namespace dlcore
