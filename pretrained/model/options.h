#pragma once
// The options of from_pretrained and save_pretrained: Python's keyword arguments, spelled as there.

#include <c10/core/Device.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "pretrained/base/json.h"

namespace pretrained {

// What happened to the keys; filled when asked for by `FromPretrained::report`.
struct LoadReport {
  std::vector<std::string> missing_keys, unexpected_keys, mismatched_keys;
  bool all_matched() const {
    return missing_keys.empty() && unexpected_keys.empty() && mismatched_keys.empty();
  }
};

// Called with bytes done and in all, from the loading thread; the first time with 0.
using Progress = std::function<void(uint64_t done, uint64_t total)>;
// Called with one line before long work (compiling) and for warnings.
using Notice = std::function<void(const std::string& line)>;

struct FromPretrained {
  // The folder's C++ code may be compiled and run. Without it such a folder is an UntrustedCode
  // error.
  bool trust_remote_code = false;
  std::string revision = "main";  // of a repository on a hub; a folder has none
  std::string subfolder;
  std::string variant;  // model.<variant>.safetensors
  std::string dtype =
      "auto";  // "auto": config.dtype, else as the weights are; or "float32", "bfloat16", …
  c10::Device device = c10::kCPU;
  Json::Object config_overrides;  // fields of the config to replace
  // A folder whose C++ code is used instead of the model's own: for repositories that hold only
  // Python.
  std::string code;
  // Renames of checkpoint keys: regular expression → replacement, tried in order.
  std::vector<std::pair<std::string, std::string>> key_mapping;
  // Loading is strict: a missing, unexpected or mismatched tensor is a WeightsError. These let some
  // through; patterns with '*'. What is allowed to be missing or mismatched keeps its random
  // initialisation.
  std::vector<std::string> allow_missing, allow_unexpected;
  bool ignore_mismatched_sizes = false;
  bool use_mmap = true;  // weights point into the mapped file; false: read into memory
  LoadReport* report = nullptr;
  Progress progress;
  Notice notice;
};

struct SavePretrained {
  std::string max_shard_size = "50GB";  // "5MB" = 5·10⁶ bytes, "5MiB" = 5·2²⁰
  std::string variant;
  Progress progress;
  Notice notice;
};

}  // namespace pretrained
