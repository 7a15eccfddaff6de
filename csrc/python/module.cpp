#include "base/error.h"
#include "python/convert.h"

namespace {

PyObject* exception_for(dlcore::ErrorKind kind) {
  switch (kind) {
    case dlcore::ErrorKind::Value:
      return PyExc_ValueError;
    case dlcore::ErrorKind::Type:
      return PyExc_TypeError;
    case dlcore::ErrorKind::Index:
      return PyExc_IndexError;
    case dlcore::ErrorKind::Key:
      return PyExc_KeyError;
    case dlcore::ErrorKind::Memory:
      return PyExc_MemoryError;
    case dlcore::ErrorKind::Io:
      return PyExc_OSError;
    case dlcore::ErrorKind::Runtime:
      break;
  }
  return PyExc_RuntimeError;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of dlcore.";
  m.attr("__version__") = DLCORE_VERSION;
  pybind11::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const dlcore::Error& e) {
      PyErr_SetString(exception_for(e.kind()), e.what());
    }
  });
  dlcore::bind_tensor(m);
  dlcore::bind_graph(m);
  dlcore::bind_program(m);
}
