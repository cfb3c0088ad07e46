#pragma once
// Old checkpoints: pytorch_model.bin as torch.save writes it since PyTorch 1.6, a zip of data.pkl
// and one entry per storage. The pickle is read by a machine that can build containers, numbers,
// strings and tensors and nothing else: any other global, and any instruction that would call or
// construct something, is a FormatError naming it. Nothing is ever run. Mirrors
// torch/_weights_only_unpickler.py. Threads: reentrant; a PickleFile is immutable.

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/safetensors/safetensors.h"

namespace pretrained::safetensors {

struct PickledTensor {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<int64_t> shape, strides;  // in items
  uint64_t begin = 0;                   // of the first item, in the file
};

// The tensors of a state dict, or of its "state_dict" member, in the order of the dict. `file` is
// the whole file. Every item of every tensor lies in its storage; strided views, and several
// tensors on the same bytes, are as Python saved them.
PRETRAINED_API std::vector<PickledTensor> read_pickle(std::string_view file,
                                                      const std::string& source);

class PRETRAINED_API PickleFile {
 public:
  // Symbolic links in `path` are followed; FileDescriptors from open_inside() are for names that a
  // file gave.
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
