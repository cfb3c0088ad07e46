#pragma once
// From the name of a model to a folder on disk. A folder is itself (a JSON file stands for its
// config). "org/name" and
// "org/name@revision" are repositories on a hub: the revision is resolved to a commit once, and
// what is needed of that commit is fetched into the cache that Python's clients share.

#include <filesystem>
#include <string>

#include "pretrained/base/export.h"
#include "pretrained/model/options.h"

namespace pretrained {

struct PRETRAINED_API Located {
  std::filesystem::path folder;       // the subfolder, where one is asked for
  std::filesystem::path config_file;  // its config.json, or the JSON file that was named
  std::string repo, commit;           // empty: a folder
  std::string subfolder;              // of the repository
  bool pinned = false;                // the caller named the commit, not a branch or tag
  // For messages: the folder, or "org/name@<commit>".
  PRETRAINED_API std::string name() const;
};

// Config, code and other small files, but no weights: nothing large moves before it is clear that
// the model can be loaded. NotFoundError where there is no such folder or repository, and the
// errors of pretrained/hub/errors.h.
PRETRAINED_API Located locate(const std::string& name, const FromPretrained& options = {});
// Fetches the weights too (model[.variant].safetensors, else its shards, else pytorch_model.bin).
PRETRAINED_API void fetch_weights(const Located& model, const FromPretrained& options);
// The code of `options.code`, or of another repository that config.json names: it must be pinned to
// a commit, ArgumentError otherwise.
PRETRAINED_API Located locate_code(const std::string& name, const FromPretrained& options);

}  // namespace pretrained
