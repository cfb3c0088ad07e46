#pragma once
// Weights in several files: model-00001-of-00003.safetensors … and model.safetensors.index.json,
// which says
// {"metadata": {"total_size": bytes, "total_parameters": n}, "weight_map": {tensor: file}}.
// Mirrors huggingface_hub/serialization/_base.py and Transformers' save_pretrained.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::safetensors {

struct PRETRAINED_API Index {
  std::map<std::string, std::string> weight_map;  // tensor → file
  std::optional<int64_t> total_size, total_parameters;
  std::vector<std::string> files() const;  // each once, sorted
};

// File names must be plain ([A-Za-z0-9._-]+): anything that could lead out of the folder is a
// FormatError.
PRETRAINED_API Index parse_index(const std::string& text, const std::string& source);
PRETRAINED_API std::string write_index(const Index& index);
// What the shards really hold, by file, against what the index says: each tensor in its file, no
// other, the same size.
PRETRAINED_API void check_index(
    const Index& index, const std::map<std::string, std::vector<std::string>>& tensors_by_file,
    uint64_t total_size, const std::string& source);

// "50GB" = 50·10⁹, "1.5GB", "5MiB" = 5·2²⁰, "100" bytes; the case of the unit is of no matter, as
// in huggingface_hub's parse_size_to_int, which save_pretrained uses (not Transformers' own, where
// a small b means bits). Throws ArgumentError.
PRETRAINED_API uint64_t parse_size(const std::string& text);
// Which tensors, by place, go together: in order, a new shard where the limit would be passed, one
// that is larger than the limit alone.
PRETRAINED_API std::vector<std::vector<size_t>> plan_shards(const std::vector<uint64_t>& sizes,
                                                            uint64_t max_shard_size);

// "model", "model.fp16", "model-00001-of-00003", "model.fp16-00001-of-00003", each with
// ".safetensors".
PRETRAINED_API std::string weights_name(const std::string& variant, size_t shard = 0,
                                        size_t shards = 1);
// "model.safetensors.index.json", "model.safetensors.index.fp16.json".
PRETRAINED_API std::string index_name(const std::string& variant);
// Throws ArgumentError for a variant that could not be part of a file name.
PRETRAINED_API void check_variant(const std::string& variant);

}  // namespace pretrained::safetensors
