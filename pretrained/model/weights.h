#pragma once
// Weights ↔ files: safetensors (single, sharded, variants) and old pytorch_model.bin into tensors
// and modules, and back. Reading maps the file and copies nothing: tensors point into the mapping
// and keep it alive; writing to them changes neither the file nor other readers. Threads:
// independent files may be read and written at once.

#include <filesystem>
#include <string>

#include "pretrained/base/folder_update.h"
#include "pretrained/model/modeling.h"

namespace pretrained {

// Python's safetensors.torch.load_file and save_file. load_file also reads a pytorch_model.bin.
PRETRAINED_API NamedTensors load_file(const std::filesystem::path& path);
PRETRAINED_API void save_file(const NamedTensors& tensors, const std::filesystem::path& path);

// All weights of a model's folder, by checkpoint name: model[.variant].safetensors, else its index
// with every shard, else pytorch_model[.variant].bin. The index is checked against the shards. What
// a file does not align is not aligned here either: see aligned(). Throws NotFoundError,
// FormatError.
PRETRAINED_API NamedTensors load_folder(const std::filesystem::path& folder,
                                        const std::string& variant);

// The files it reads, the index too. FormatError where the index is none.
PRETRAINED_API std::vector<std::string> weights_files(const std::filesystem::path& folder,
                                                      const std::string& variant);

// The tensor itself, or a copy where its bytes do not lie at a multiple of its item size.
PRETRAINED_API at::Tensor aligned(const at::Tensor& tensor);

// Adds model[.variant].safetensors, or its shards and index, to a change of the model's folder, and
// takes away the shards and indexes of an earlier save that are no longer used.
PRETRAINED_API void add_weights(FolderUpdate& update, const NamedTensors& tensors,
                                const SavePretrained& options);

// "float32" ↔ torch::kFloat32; ArgumentError for an unknown name.
PRETRAINED_API torch::Dtype parse_dtype(const std::string& name);
PRETRAINED_API std::string dtype_name(torch::Dtype dtype);

}  // namespace pretrained
