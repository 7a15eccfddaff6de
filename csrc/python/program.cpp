#include "runtime/program.h"

#include "base/alloc.h"
#include "base/cpu.h"
#include "base/parallel.h"
#include "passes/passes.h"
#include "python/convert.h"
#include "runtime/measure.h"

namespace dlcore {

namespace {

py::tuple describe(const std::string& name, const TensorType& type) {
  return py::make_tuple(name, std::string(name_of(type.dtype)), to_tuple(type.shape));
}

}  // namespace

void bind_program(py::module_& m) {
  py::class_<Program>(m, "Program")
      .def(py::init(
               [](const Graph& g, const std::optional<std::vector<std::string>>& passes, const std::string& backend) {
                 const py::gil_scoped_release nogil;
                 return std::make_unique<Program>(g, passes ? &*passes : nullptr, backend);
               }),
           py::arg("graph"), py::kw_only(), py::arg("passes") = py::none(), py::arg("backend") = "")
      .def("inputs",
           [](const Program& p) {
             py::list rows;
             for (const Leaf* l : p.leaves(Role::Input)) rows.append(describe(l->name, p.graph().type(l->value)));
             return rows;
           })
      .def("outputs",
           [](const Program& p) {
             py::list rows;
             for (const Output& o : p.graph().outputs) rows.append(describe(o.name, p.graph().type(o.value)));
             return rows;
           })
      .def("states",
           [](const Program& p) {
             py::list rows;
             for (const Leaf* l : p.states()) rows.append(describe(l->name, p.graph().type(l->value)));
             return rows;
           })
      .def("bind", &Program::bind, py::arg("name"), py::arg("data"))
      .def("run", &Program::run, py::arg("inputs"), py::call_guard<py::gil_scoped_release>())
      .def("run_batches", &Program::run_batches, py::arg("columns"), py::arg("order"), py::arg("first"),
           py::arg("count"), py::arg("scalars"), py::arg("seconds"), py::call_guard<py::gil_scoped_release>())
      .def("text", [](const Program& p) { return print(p.graph()); })
      .def("plan_text", [](const Program& p) { return print(p.graph(), p.plan()); })
      .def(
          "profile",
          [](Program& p, const std::vector<Tensor>& inputs, int repeat) {
            std::vector<ProfileRow> rows;
            {
              const py::gil_scoped_release nogil;
              rows = p.profile(inputs, repeat);
            }
            py::list out;
            for (const ProfileRow& r : rows) {
              py::dict d;
              d["op"] = r.op;
              d["where"] = r.where;
              d["backend"] = r.backend;
              d["ms"] = r.milliseconds;
              d["shape"] = to_tuple(r.type.shape);
              d["bytes"] = r.bytes;
              d["operations"] = r.operations;
              out.append(d);
            }
            return out;
          },
          py::arg("inputs"), py::arg("repeat") = 10)
      .def("memory",
           [](const Program& p) {
             py::list out;
             for (const MemoryRow& r : p.memory()) out.append(py::make_tuple(r.op, r.where, r.bytes));
             return out;
           })
      .def_property_readonly("arena_bytes", &Program::arena_bytes);

  m.def(
      "run_op",
      [](const std::string& op, const std::vector<Tensor>& inputs, const py::dict& attrs, const std::string& backend) {
        const Attrs a = to_attrs(attrs);
        const py::gil_scoped_release nogil;
        return run_op(op, inputs, a, backend);
      },
      py::arg("op"), py::arg("inputs"), py::arg("attrs") = py::dict(), py::arg("backend") = "");
  m.def(
      "backends", [](const std::string& op) { return registry().backends(op); }, py::arg("op"));
  m.def("isa", [] { return std::string(name_of(current_isa())); });
  m.def("detected_isa", [] { return std::string(name_of(detected_isa())); });
  m.def(
      "set_last_cache",
      [](int64_t bytes) {
        const int64_t before = last_cache();
        set_last_cache(bytes);
        return before;
      },
      py::arg("bytes"), "For tests: results from half so many bytes on are written past the caches; 0: none.");
  m.def("has_amx_bf16", &has_amx_bf16);
  m.def("allow_amx", &allow_amx, py::arg("allowed"), "For tests: whether bfloat16 is multiplied by tiles.");
  m.def(
      "set_isa", [](const std::string& name) { set_isa(parse_isa(name)); }, py::arg("name"));
  m.def("set_precise", &set_precise, py::arg("precise"));
  m.def("precise", &precise);
  m.def("fma_peak", &fma_peak, py::call_guard<py::gil_scoped_release>());
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("allocation_count", &allocation_count);
  m.def("allocated_bytes", &allocated_bytes);
  m.def("load_backend", &load_backend, py::arg("path"));
}

}  // namespace dlcore
