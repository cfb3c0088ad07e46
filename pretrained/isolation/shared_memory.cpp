#include "pretrained/isolation/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/torch.h>
#include <unistd.h>

#include "pretrained/base/error.h"
#include "pretrained/model/weights.h"

namespace pretrained::isolation {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kMaxBytes = uint64_t{1} << 46;
constexpr size_t kMaxTensors = 100'000, kMaxDims = 64;
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;

template <class T>
const T& member(const Json& json, const char* key, const std::string& what) {
  auto* found = json.find(key);
  auto* value = found ? found->get_if<T>() : nullptr;
  if (!value) throw FormatError(what + ": a tensor without a proper '" + key + "'");
  return *value;
}

}  // namespace

uint64_t TensorInfo::bytes() const {
  uint64_t size = c10::elementSize(dtype);
  for (int64_t n : shape)
    if (n < 0 || __builtin_mul_overflow(size, uint64_t(n), &size) || size > kMaxBytes)
      throw FormatError(printable(name) + ": a tensor of an impossible size");
  return size;
}

TensorInfo describe(const std::string& name, const at::Tensor& tensor) {
  return {name, tensor.scalar_type(), tensor.sizes().vec(), 0, tensor.requires_grad()};
}

uint64_t lay_out(TensorInfos& tensors) {
  uint64_t at = 0;
  for (auto& tensor : tensors) {
    tensor.offset = at;
    at += (tensor.bytes() + kAlignment - 1) / kAlignment * kAlignment;
    if (at > kMaxBytes) throw FormatError("tensors of an impossible size");
  }
  return at;
}

Json to_json(const TensorInfos& tensors) {
  Json::Array list;
  for (auto& tensor : tensors) {
    Json::Array shape(tensor.shape.begin(), tensor.shape.end());
    list.push_back(Json::Object{{"name", tensor.name},
                                {"dtype", dtype_name(tensor.dtype)},
                                {"shape", shape},
                                {"offset", int64_t(tensor.offset)},
                                {"grad", tensor.requires_grad}});
  }
  return list;
}

TensorInfos tensors_from_json(const Json* json, const std::string& what) {
  auto* list = json ? json->get_if<Json::Array>() : nullptr;
  if (!list || list->size() > kMaxTensors) throw FormatError(what + ": no list of tensors");
  TensorInfos tensors;
  for (auto& entry : *list) {
    TensorInfo info;
    info.name = member<std::string>(entry, "name", what);
    try {
      info.dtype = parse_dtype(member<std::string>(entry, "dtype", what));
    } catch (const ArgumentError& error) {
      throw FormatError(what + ": " + error.what());
    }
    auto& shape = member<Json::Array>(entry, "shape", what);
    if (shape.size() > kMaxDims) throw FormatError(what + ": a tensor of too many dimensions");
    for (auto& n : shape) {
      auto* size = n.get_if<int64_t>();
      if (!size) throw FormatError(what + ": a tensor without a proper 'shape'");
      info.shape.push_back(*size);
    }
    int64_t offset = member<int64_t>(entry, "offset", what);
    if (offset < 0 || offset % int64_t(kAlignment) != 0)
      throw FormatError(what + ": a tensor at a wrong place");
    info.offset = uint64_t(offset);
    info.requires_grad = member<bool>(entry, "grad", what);
    info.bytes();
    tensors.push_back(std::move(info));
  }
  return tensors;
}

SharedMemory::SharedMemory(uint64_t size) : size_(size) {
  file_ = std::make_shared<FileDescriptor>(
      memfd_create("pretrained-tensors", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file_->get() < 0 || ftruncate(file_->get(), off_t(size)) != 0 ||
      fcntl(file_->get(), F_ADD_SEALS, kSeals) != 0)
    throw IoError("no shared memory of " + std::to_string(size) + " bytes");
  map();
}

SharedMemory::SharedMemory(FileDescriptor file)
    : file_(std::make_shared<FileDescriptor>(std::move(file))) {
  struct stat status{};
  if (fstat(file_->get(), &status) != 0 || fcntl(file_->get(), F_GET_SEALS) != kSeals)
    throw FormatError("shared memory that is not sealed");
  size_ = uint64_t(status.st_size);
  map();
}

void SharedMemory::map() {
  if (size_ == 0) return;
  void* address = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_->get(), 0);
  if (address == MAP_FAILED)
    throw IoError("shared memory of " + std::to_string(size_) + " bytes cannot be mapped");
  memory_ = {static_cast<char*>(address), [size = size_](char* start) { munmap(start, size); }};
}

bool SharedMemory::contains(const void* address) const {
  auto* byte = static_cast<const char*>(address);
  return memory_ && byte >= memory_.get() && byte < memory_.get() + size_;
}

at::Tensor SharedMemory::tensor(const TensorInfo& info) const {
  if (info.offset > size_ || info.bytes() > size_ - info.offset)
    throw FormatError(printable(info.name) + ": a tensor that lies outside the shared memory");
  auto options = torch::TensorOptions(info.dtype);
  if (info.bytes() == 0) return torch::empty(info.shape, options);
  return torch::from_blob(
      memory_.get() + info.offset, info.shape, [memory = memory_](void*) {}, options);
}

}  // namespace pretrained::isolation
