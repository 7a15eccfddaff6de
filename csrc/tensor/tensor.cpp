#include "tensor/tensor.h"

#include <cstring>

#include "base/alloc.h"
#include "base/error.h"

namespace dlcore {

Buffer::Buffer(size_t bytes) : data_(allocate(bytes)), bytes_(bytes) {}
Buffer::Buffer(void* data, size_t bytes, std::function<void()> release)
    : data_(data), bytes_(bytes), release_(std::move(release)) {}

Buffer::~Buffer() {
  if (release_)
    release_();
  else
    deallocate(data_, bytes_);
}

Tensor::Tensor(TensorType type) : type_(std::move(type)) {
  buffer_ = std::make_shared<Buffer>(static_cast<size_t>(byte_size(type_)));
}

Tensor::Tensor(TensorType type, std::shared_ptr<Buffer> buffer) : type_(std::move(type)), buffer_(std::move(buffer)) {
  DLCORE_CHECK(buffer_ && buffer_->size() >= nbytes(), Value, "a tensor of type ", to_string(type_), " needs ",
               nbytes(), " bytes, the buffer holds ", buffer_ ? buffer_->size() : 0);
}

Tensor Tensor::zeros(TensorType type) {
  Tensor t(std::move(type));
  std::memset(t.data(), 0, t.nbytes());
  return t;
}

Tensor Tensor::clone() const {
  Tensor t(type_);
  std::memcpy(t.data(), data(), nbytes());
  return t;
}

void Tensor::copy_from(const Tensor& other) {
  DLCORE_CHECK(type_ == other.type_, Value, "cannot copy ", to_string(other.type_), " into ", to_string(type_));
  if (data() != other.data()) std::memcpy(data(), other.data(), nbytes());
}

Tensor Tensor::reshaped(Shape shape) const {
  DLCORE_CHECK(numel(shape) == numel(type_.shape), Value, "cannot reshape ", to_string(type_.shape), " to ",
               to_string(shape));
  return Tensor({type_.dtype, std::move(shape)}, buffer_);
}

}  // namespace dlcore
