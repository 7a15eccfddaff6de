#include "base/error.h"
#include "python/convert.h"

namespace dlcore {

void bind_tensor(py::module_& m) {
  py::class_<Tensor>(m, "Tensor")
      .def(py::init([](const std::string& dtype, const Shape& shape) {
             DLCORE_CHECK(shape.size() <= kMaxRank, Value, "tensors have at most ", kMaxRank, " dimensions, got ",
                          shape.size());
             return Tensor::zeros({parse_dtype(dtype), shape});
           }),
           py::arg("dtype"), py::arg("shape"))
      .def_static("from_numpy", &from_numpy, py::arg("array"), py::arg("copy") = false)
      .def("numpy", [](const py::object& self) { return to_numpy(self, self.cast<const Tensor&>()); })
      .def_property_readonly("shape", [](const Tensor& t) { return to_tuple(t.shape()); })
      .def_property_readonly("dtype", [](const Tensor& t) { return std::string(name_of(t.dtype())); })
      .def_property_readonly("nbytes", &Tensor::nbytes)
      .def_property_readonly("data_ptr", [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data()); })
      .def("clone", &Tensor::clone)
      .def("copy_from", &Tensor::copy_from, py::arg("other"))
      .def("reshape", &Tensor::reshaped, py::arg("shape"))
      .def("__dlpack__", [](const Tensor& t, const py::kwargs&) { return to_dlpack(t); })
      .def("__dlpack_device__", [](const Tensor&) { return py::make_tuple(1, 0); })
      .def_static("from_dlpack", &from_dlpack, py::arg("capsule"));
}

}  // namespace dlcore
