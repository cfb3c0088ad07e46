#pragma once
// The options of from_pretrained, save_pretrained and push_to_hub: Python's keyword arguments,
// spelled as there.

#include <c10/core/Device.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "pretrained/base/json.h"
#include "pretrained/code/trust.h"
#include "pretrained/hub/transfer.h"
#include "pretrained/model/named_tensors.h"

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
// Called with one line before long work (compiling), for warnings, and from other threads where a
// hub is asked again.
using Notice = std::function<void(const std::string& line)>;

// Where a model's own code runs (pretrained/isolation/isolation.h).
enum class Isolation { none, process };
struct IsolationLimits {
  uint64_t memory_bytes = 0;                  // address space; 0: as much as the machine has memory
  std::chrono::milliseconds call_timeout{0};  // of one call; 0: none
  uint64_t output_bytes = uint64_t{4} << 30;  // of one call's outputs together
};

struct FromPretrained {
  // Whether the model's C++ code may be compiled and run: true, false or a TrustPolicy. Left out,
  // it may where these very bytes were trusted before. Else an UntrustedCode error. See trust.h.
  TrustRemoteCode trust_remote_code;
  // Of a repository on a hub, as a name "org/name@revision" also says it: a branch, tag, commit or
  // "refs/pr/1". Resolved to a commit once; every file comes from that one. A folder has none.
  std::string revision = "main";
  std::string subfolder;
  std::string variant;  // model.<variant>.safetensors
  std::string dtype =
      "auto";  // "auto": config.dtype, else as the weights are; or "float32", "bfloat16", …
  c10::Device device = c10::kCPU;
  Json::Object config_overrides;  // fields of the config to replace
  // A folder or "org/repo@<commit>" whose C++ code is used instead of the model's own: for
  // repositories that hold only Python.
  std::string code;
  std::string code_revision;  // the commit of `code`, or of code that config.json finds elsewhere
  // A pretrained.lock (`pretrained lock`): the commit is the one that it names, and config, code
  // and weights must be the files that it holds; else a FormatError that lists what differs. A name
  // without a revision stands for that commit.
  std::filesystem::path lock;
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

  // process: the code runs in a process of its own that can only compute; it need not be trusted.
  Isolation isolation = Isolation::none;
  IsolationLimits isolation_limits;

  // For names of repositories on a hub (HF_ENDPOINT):
  std::string token;                // empty: that of the login
  std::filesystem::path cache_dir;  // empty: HF_HUB_CACHE
  bool local_files_only = false;    // only what the cache holds; no connection is made
  bool force_download = false;
  hub::OnTransfer on_transfer;
};

struct SavePretrained {
  std::string max_shard_size = "50GB";  // "5MB" = 5·10⁶ bytes, "5MiB" = 5·2²⁰
  std::string variant;
  Progress progress;
  Notice notice;
};

// push_to_hub saves into a temporary folder, proves it, and uploads it as one commit.
struct PushToHub {
  bool private_ = false;       // Conflict where it exists and is public
  std::string commit_message;  // empty: "Upload model", "Upload config"
  std::string commit_description;
  std::string revision = "main";  // a branch; made where there is none
  bool create_pr = false;
  std::string token;  // empty: that of the login
  std::string max_shard_size = "50GB";
  std::string variant;
  std::vector<std::string> tags;  // of the model card, where the repository has none yet
  // Before anything is sent, what was saved is compiled in a clean folder, loaded, and must give
  // the same outputs for `example` (forward's inputs by name). Without an example one image of
  // random pixels is tried; a model that does not take it is compared by its weights alone.
  bool prove = true;
  NamedTensors example;
  Progress progress;
  Notice notice;
  hub::OnTransfer on_transfer;
};

struct PushResult {
  std::string commit_url, oid;
  std::string pr_url;  // with create_pr
};

}  // namespace pretrained
