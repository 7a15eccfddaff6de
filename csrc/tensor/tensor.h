// Buffer: reference-counted memory. Tensor: a handle of dtype, shape and a contiguous row-major buffer.
#pragma once
#include <functional>
#include <memory>

#include "base/shape.h"

namespace dlcore {

class Buffer {
 public:
  explicit Buffer(size_t bytes);                                    // own memory, from the caching allocator
  Buffer(void* data, size_t bytes, std::function<void()> release);  // borrowed: release() when the last user goes
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
  std::function<void()> release_;
};

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(TensorType type);                         // uninitialised
  Tensor(TensorType type, std::shared_ptr<Buffer> buffer);  // throws when the buffer is too small
  static Tensor zeros(TensorType type);

  const TensorType& type() const { return type_; }
  DType dtype() const { return type_.dtype; }
  const Shape& shape() const { return type_.shape; }
  bool defined() const { return buffer_ != nullptr; }
  void* data() const { return buffer_ ? buffer_->data() : nullptr; }
  template <class T>
  T* ptr() const {
    return static_cast<T*>(data());
  }
  size_t nbytes() const { return static_cast<size_t>(byte_size(type_)); }
  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }

  Tensor clone() const;
  void copy_from(const Tensor& other);  // same type required; throws Error(Value)
  Tensor reshaped(Shape shape) const;   // shares the buffer

 private:
  TensorType type_;
  std::shared_ptr<Buffer> buffer_;
};

}  // namespace dlcore
