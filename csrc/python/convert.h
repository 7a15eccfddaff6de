// Between Python's values and the core's: attributes, shapes, NumPy arrays, DLPack capsules.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "base/attrs.h"
#include "tensor/tensor.h"

namespace dlcore {

namespace py = pybind11;

Attrs to_attrs(const py::dict& items);
py::dict from_attrs(const Attrs& attrs);
py::tuple to_tuple(const Shape& shape);

Tensor from_numpy(const py::array& array, bool copy);
py::array to_numpy(const py::object& self, const Tensor& tensor);  // a read-only view that keeps `self` alive
py::capsule to_dlpack(const Tensor& tensor);
Tensor from_dlpack(const py::capsule& capsule);

void bind_tensor(py::module_& m);
void bind_graph(py::module_& m);
void bind_program(py::module_& m);

}  // namespace dlcore
