#pragma once
// Memory that two processes see, with tensors in it. The file behind it can neither shrink nor grow
// (sealed), so that neither side can make the other's reads fault.

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "pretrained/base/files.h"
#include "pretrained/base/json.h"

namespace pretrained::isolation {

// What a tensor is, without its bytes: {"name", "dtype", "shape", "offset", "grad"}.
struct TensorInfo {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t offset = 0;
  bool requires_grad = false;
  uint64_t bytes() const;
};
using TensorInfos = std::vector<TensorInfo>;

TensorInfo describe(const std::string& name, const at::Tensor& tensor);
// Gives each an offset, 64-byte aligned, in order; the size of all.
uint64_t lay_out(TensorInfos& tensors);
Json to_json(const TensorInfos& tensors);
// FormatError for anything that is no such list, or that would be larger than an address.
TensorInfos tensors_from_json(const Json* json, const std::string& what);

class SharedMemory {
 public:
  SharedMemory() = default;
  explicit SharedMemory(uint64_t size);  // new, zeros; IoError where there is no memory
  explicit SharedMemory(
      FileDescriptor file);  // from the other side; FormatError unless it is sealed
  uint64_t size() const { return size_; }
  int descriptor() const { return file_ ? file_->get() : -1; }
  bool contains(const void* address) const;
  // A tensor on the memory, which lives as long as the tensor does. FormatError where it does not
  // lie inside.
  at::Tensor tensor(const TensorInfo& info) const;

 private:
  void map();
  std::shared_ptr<FileDescriptor> file_;
  std::shared_ptr<char> memory_;
  uint64_t size_ = 0;
};

}  // namespace pretrained::isolation
