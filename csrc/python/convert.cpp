#include "python/convert.h"

#include "base/error.h"

namespace dlcore {

namespace {

AttrValue to_attr(const std::string& name, const py::handle& value) {
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (PyFloat_Check(value.ptr())) return value.cast<double>();
  if (PyIndex_Check(value.ptr())) {
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!index) throw py::error_already_set();
    return index.cast<int64_t>();
  }
  if (py::isinstance<py::sequence>(value)) {
    IntList list;
    for (const auto& item : value) {
      const AttrValue v = to_attr(name, item);
      const int64_t* i = std::get_if<int64_t>(&v);
      DLCORE_CHECK(i, Type, "attribute '", name, "' should be a list of integers");
      list.push_back(*i);
    }
    return list;
  }
  fail(ErrorKind::Type, "attribute '", name, "' should be a number, text or a list of integers, got ",
       std::string(py::str(py::type::of(value))));
}

py::dtype numpy_dtype(DType dtype) {
  constexpr const char* names[kDTypeCount] = {"f4", "f8", "u2", "f2", "i1", "u1", "i4", "i8", "?"};
  return py::dtype(names[static_cast<int>(dtype)]);
}

DType core_dtype(const py::dtype& dtype) {
  if (dtype.byteorder() != '>')
    for (DType d : {DType::F32, DType::F64, DType::F16, DType::I8, DType::U8, DType::I32, DType::I64, DType::Bool})
      if (dtype.equal(numpy_dtype(d))) return d;
  fail(ErrorKind::Type, "arrays of dtype ", std::string(py::str(dtype)),
       " are not supported; known: float32 float64 float16 int8 uint8 int32 int64 bool");
}

void release_object(PyObject* object) {
  if (!Py_IsInitialized()) return;
  const py::gil_scoped_acquire gil;
  Py_DECREF(object);
}

// The structures of DLPack 0.8 (dmlc/dlpack, dlpack.h).
struct DLDevice {
  int32_t device_type, device_id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};
constexpr int32_t kDLCPU = 1;
constexpr DLDataType kDLTypes[kDTypeCount] = {{2, 32, 1}, {2, 64, 1}, {4, 16, 1}, {2, 16, 1}, {0, 8, 1},
                                              {1, 8, 1},  {0, 32, 1}, {0, 64, 1}, {6, 8, 1}};

struct Exported {
  Tensor tensor;
  std::vector<int64_t> strides;
  DLManagedTensor managed;
};

}  // namespace

Attrs to_attrs(const py::dict& items) {
  Attrs attrs;
  for (const auto& [key, value] : items) {
    const std::string name = key.cast<std::string>();
    attrs.set(name, to_attr(name, value));
  }
  return attrs;
}

py::dict from_attrs(const Attrs& attrs) {
  py::dict items;
  for (const auto& [name, value] : attrs)
    items[py::str(name)] = std::visit([](const auto& v) -> py::object { return py::cast(v); }, value);
  return items;
}

py::tuple to_tuple(const Shape& shape) {
  py::tuple t(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) t[i] = py::int_(shape[i]);
  return t;
}

Tensor from_numpy(const py::array& array, bool copy) {
  const DType dtype = core_dtype(array.dtype());
  DLCORE_CHECK(array.ndim() <= kMaxRank, Value, "arrays have at most ", kMaxRank, " dimensions, got ", array.ndim());
  const TensorType type{dtype, Shape(array.shape(), array.shape() + array.ndim())};
  const bool aligned = reinterpret_cast<uintptr_t>(array.data()) % size_of(dtype) == 0;
  if (!copy && aligned && (array.flags() & py::array::c_style)) {
    PyObject* object = array.ptr();
    Py_INCREF(object);
    auto buffer = std::make_shared<Buffer>(const_cast<void*>(array.data()), static_cast<size_t>(array.nbytes()),
                                           [object] { release_object(object); });
    return Tensor(type, std::move(buffer));
  }
  const py::array packed = py::module_::import("numpy").attr("ascontiguousarray")(array);
  Tensor t(type);
  if (packed.nbytes()) std::memcpy(t.data(), packed.data(), static_cast<size_t>(packed.nbytes()));
  return t;
}

py::array to_numpy(const py::object& self, const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  py::array view(numpy_dtype(tensor.dtype()), std::vector<py::ssize_t>(shape.begin(), shape.end()), tensor.data(),
                 self);
  view.attr("flags").attr("writeable") = false;
  return view;
}

py::capsule to_dlpack(const Tensor& tensor) {
  auto* e = new Exported{tensor, row_major_strides(tensor.shape()), {}};
  DLTensor& t = e->managed.dl_tensor;
  t = {tensor.data(),
       {kDLCPU, 0},
       static_cast<int32_t>(tensor.shape().size()),
       kDLTypes[static_cast<int>(tensor.dtype())],
       const_cast<int64_t*>(e->tensor.shape().data()),
       e->strides.data(),
       0};
  e->managed.manager_ctx = e;
  e->managed.deleter = [](DLManagedTensor* m) { delete static_cast<Exported*>(m->manager_ctx); };
  return py::capsule(&e->managed, "dltensor", [](PyObject* capsule) {
    // A consumer renames the capsule and takes the deleter over.
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;
    auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    m->deleter(m);
  });
}

Tensor from_dlpack(const py::capsule& capsule) {
  DLCORE_CHECK(PyCapsule_IsValid(capsule.ptr(), "dltensor"), Value, "from_dlpack: the capsule is used up or no tensor");
  auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  const DLTensor& t = m->dl_tensor;
  DLCORE_CHECK(t.device.device_type == kDLCPU, Value, "from_dlpack: only CPU tensors, got device type ",
               t.device.device_type);
  DLCORE_CHECK(t.ndim >= 0 && t.ndim <= kMaxRank, Value, "from_dlpack: at most ", kMaxRank, " dimensions, got ",
               t.ndim);
  int found = -1;
  for (int i = 0; i < kDTypeCount; ++i)
    if (kDLTypes[i].code == t.dtype.code && kDLTypes[i].bits == t.dtype.bits && t.dtype.lanes == 1) found = i;
  DLCORE_CHECK(found >= 0, Type, "from_dlpack: unknown element type (code ", int{t.dtype.code}, ", ", int{t.dtype.bits},
               " bits)");
  const TensorType type{static_cast<DType>(found), Shape(t.shape, t.shape + t.ndim)};
  const auto strides = row_major_strides(type.shape);
  if (t.strides && numel(type.shape))
    for (int i = 0; i < t.ndim; ++i)
      DLCORE_CHECK(type.shape[i] == 1 || t.strides[i] == strides[i], Value,
                   "from_dlpack: the tensor should be contiguous and row-major");
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  auto buffer = std::make_shared<Buffer>(static_cast<uint8_t*>(t.data) + t.byte_offset,
                                         static_cast<size_t>(byte_size(type)), [m] {
                                           if (!m->deleter || !Py_IsInitialized()) return;
                                           const py::gil_scoped_acquire gil;
                                           m->deleter(m);
                                         });
  return Tensor(type, std::move(buffer));
}

}  // namespace dlcore
