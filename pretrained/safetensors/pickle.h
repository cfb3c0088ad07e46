#pragma once
// Old checkpoints: pytorch_model.bin as torch.save writes it since PyTorch 1.6, a zip of data.pkl
// and one entry per storage. The pickle is read by a machine that can build containers, numbers,
// strings and tensors and nothing else: any other global, and any instruction that would call or
// construct something, is a FormatError naming it. Nothing is ever run. Mirrors
// torch/_weights_only_unpickler.py. Threads: reentrant; a PickleFile is immutable.

#include <memory>
#include <string>
#include <vector>

#include "pretrained/safetensors/safetensors.h"

namespace pretrained::safetensors {

struct PickledTensor {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<int64_t> shape, strides;  // in items
  uint64_t begin = 0;                   // of the first item, in the file
};

// The tensors of a state dict, or of its "state_dict" member. `data` is the whole file.
PRETRAINED_API std::vector<PickledTensor> read_pickle(std::string_view file,
                                                      const std::string& source);

class PRETRAINED_API PickleFile {
 public:
  explicit PickleFile(const std::filesystem::path& path);
  PickleFile(const FileDescriptor& file, const std::string& name);
  const std::vector<PickledTensor>& tensors() const { return tensors_; }
  char* data(const PickledTensor& tensor) const { return mapping_.get() + tensor.begin; }
  const std::shared_ptr<char>& mapping() const { return mapping_; }

 private:
  void map(const FileDescriptor& file, const std::string& name);
  std::shared_ptr<char> mapping_;
  std::vector<PickledTensor> tensors_;
};

}  // namespace pretrained::safetensors
