#include "graph/graph.h"

#include "base/error.h"
#include "ops/op.h"
#include "passes/passes.h"
#include "python/convert.h"
#include "runtime/program.h"

namespace dlcore {

namespace {

void check_value(const Graph& g, ValueId v) {
  DLCORE_CHECK(v >= 0 && static_cast<size_t>(v) < g.values.size(), Index, "the graph has no value ", v, "; it has ",
               g.values.size());
}

ValueId add_leaf(Graph& g, Role role, const std::string& name, const std::string& dtype, const Shape& shape) {
  DLCORE_CHECK(shape.size() <= kMaxRank, Value, "values have at most ", kMaxRank, " dimensions, got ", shape.size());
  const TensorType type{parse_dtype(dtype), shape};
  byte_size(type);  // throws when it overflows
  return g.add_leaf(role, name, type);
}

}  // namespace

void bind_graph(py::module_& m) {
  py::class_<Graph> graph(m, "Graph");
  graph.def(py::init<>())
      .def(
          "const",
          [](Graph& g, const std::string& name, const Tensor& data) {
            return g.add_leaf(Role::Const, name, data.type(), data);
          },
          py::arg("name"), py::arg("data"))
      .def(
          "emit",
          [](Graph& g, const std::string& op, std::vector<ValueId> inputs, const py::dict& attrs,
             const std::string& where) {
            for (ValueId v : inputs) check_value(g, v);
            return emit(g, op, std::move(inputs), to_attrs(attrs), where);
          },
          py::arg("op"), py::arg("inputs"), py::arg("attrs") = py::dict(), py::arg("where") = "")
      .def(
          "output",
          [](Graph& g, const std::string& name, ValueId v) {
            check_value(g, v);
            g.add_output(name, v);
          },
          py::arg("name"), py::arg("value"))
      .def(
          "update",
          [](Graph& g, ValueId state, ValueId value) {
            check_value(g, state);
            check_value(g, value);
            g.add_update(state, value);
          },
          py::arg("state"), py::arg("value"))
      .def(
          "grad",
          [](Graph& g, ValueId output, const std::vector<ValueId>& wrt, std::optional<ValueId> seed) {
            check_value(g, output);
            for (ValueId v : wrt) check_value(g, v);
            if (seed) check_value(g, *seed);
            return grad(g, output, wrt, seed.value_or(kNone));
          },
          py::arg("output"), py::arg("wrt"), py::arg("seed") = py::none())
      .def(
          "shape",
          [](const Graph& g, ValueId v) {
            check_value(g, v);
            return to_tuple(g.shape(v));
          },
          py::arg("value"))
      .def(
          "dtype",
          [](const Graph& g, ValueId v) {
            check_value(g, v);
            return std::string(name_of(g.dtype(v)));
          },
          py::arg("value"))
      .def("leaves",
           [](const Graph& g) {
             py::list rows;
             for (const Leaf& l : g.leaves) rows.append(py::make_tuple(std::string(name_of(l.role)), l.name, l.value));
             return rows;
           })
      .def("outputs",
           [](const Graph& g) {
             py::list rows;
             for (const Output& o : g.outputs) rows.append(py::make_tuple(o.name, o.value));
             return rows;
           })
      .def("updates",
           [](const Graph& g) {
             py::list rows;
             for (const Update& u : g.updates) rows.append(py::make_tuple(u.state, u.value));
             return rows;
           })
      .def("nodes",
           [](const Graph& g) {
             py::list rows;
             for (const Node& n : g.nodes)
               rows.append(py::make_tuple(n.op, n.inputs, n.outputs, from_attrs(n.attrs), n.where));
             return rows;
           })
      .def(
          "const_data",
          [](const Graph& g, const std::string& name) {
            for (const Leaf& l : g.leaves)
              if (l.role == Role::Const && l.name == name) return l.data;
            fail(ErrorKind::Key, "the graph has no constant named '", name, "'");
          },
          py::arg("name"))
      .def("freeze", &freeze, py::arg("values"))
      .def(
          "optimize",
          [](const Graph& g, const std::optional<std::vector<std::string>>& passes) {
            const py::gil_scoped_release nogil;
            return optimize(g, passes ? &*passes : nullptr);
          },
          py::arg("passes") = py::none())
      .def("text", [](const Graph& g) { return print(g); })
      .def_static("parse", &parse, py::arg("text"), py::arg("constants") = std::map<std::string, Tensor>())
      .def("verify", [](const Graph& g) { verify(g); })
      .def("copy", [](const Graph& g) { return g; })
      .def_readwrite("batch", &Graph::batch)
      .def("with_batch", &with_batch, py::arg("n"));
  for (const auto& [name, role] : {std::pair{"input", Role::Input}, {"param", Role::Param}, {"state", Role::State}})
    graph.def(
        name,
        [role = role](Graph& g, const std::string& leaf, const std::string& dtype, const Shape& shape) {
          return add_leaf(g, role, leaf, dtype, shape);
        },
        py::arg("name"), py::arg("dtype"), py::arg("shape"));

  m.def("op_names", [] {
    std::vector<std::string> names;
    for (const OpDef* op : all_ops()) names.emplace_back(op->name);
    return names;
  });
  m.def(
      "infer",
      [](const std::string& op, const std::vector<std::pair<std::string, Shape>>& inputs, const py::dict& attrs) {
        Graph g;
        std::vector<ValueId> ids;
        for (size_t i = 0; i < inputs.size(); ++i)
          ids.push_back(add_leaf(g, Role::Input, std::to_string(i), inputs[i].first, inputs[i].second));
        py::list types;
        for (ValueId v : emit(g, op, ids, to_attrs(attrs)))
          types.append(py::make_tuple(std::string(name_of(g.dtype(v))), to_tuple(g.shape(v))));
        return types;
      },
      py::arg("op"), py::arg("inputs"), py::arg("attrs") = py::dict());
}

}  // namespace dlcore
