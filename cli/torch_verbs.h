#pragma once
// The verbs that need LibTorch run in libpretrained_verbs.so (cli/torch), which is loaded when one
// of them runs: everything else starts at once, --help included, and a build without LibTorch has
// the other verbs.

#include <cstdint>
#include <string>
#include <vector>

#include "command.h"
#include "pretrained/code/trust.h"

namespace pretrained::cli {

struct Predict {
  Common common;
  std::string model, code, subfolder, variant, dtype = "auto", device = "cpu", auto_class, lock;
  std::string revision = "main";
  bool trust_remote_code = false, isolate = false;
  std::vector<std::string> images;
  std::string input, output;  // named tensors
  size_t batch_size = 8;
  int64_t top = 5;
};

struct Inspect {
  Common common;
  std::string model, revision = "main";
};

// The code that from_pretrained would run.
struct ReviewRequest {
  std::string model, code, subfolder;
};

struct TorchVerbs {
  void (*predict)(const Predict& arguments);
  void (*inspect)(const Inspect& arguments);
  void (*create)(const std::string& where, const Common& common);
  CodeReview (*review)(const ReviewRequest& request);
};

// NotFoundError where LibTorch is not there.
const TorchVerbs& torch_verbs();

}  // namespace pretrained::cli

extern "C" PRETRAINED_API const pretrained::cli::TorchVerbs* pretrained_torch_verbs();
