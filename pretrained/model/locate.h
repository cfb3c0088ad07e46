#pragma once
// From the name of a model to a folder on disk. A folder is itself (a JSON file stands for its
// config). "org/name" and "org/name@revision" are, where there is no such folder, repositories on a
// hub: the revision is resolved to a commit once, and what is needed of that commit is fetched into
// the cache that Python's clients share. "org/name@<40 digits>" is never a folder; "./org/name@…"
// is one.

#include <filesystem>
#include <memory>
#include <string>

#include "pretrained/base/export.h"
#include "pretrained/model/options.h"

namespace pretrained {
namespace hub {
class HubClient;
struct Lock;
}  // namespace hub

struct PRETRAINED_API Located {
  std::filesystem::path folder;       // the subfolder, where one is asked for
  std::filesystem::path config_file;  // its config.json, or the JSON file that was named
  std::string repo, commit;           // empty: a folder
  std::string subfolder;              // of the repository
  bool pinned = false;                // the caller named the commit, not a branch or tag
  std::shared_ptr<const hub::HubClient> client = {};  // of a repository, for all that follows
  std::shared_ptr<const hub::Lock> lock = {};         // of options.lock
  // The repository's or the model's own folder, which `folder` lies in.
  std::filesystem::path root() const;
  // For messages: the folder, or "org/name@<commit>".
  PRETRAINED_API std::string name() const;
};

// Config, code and other small files, but no weights: nothing large moves before it is clear that
// the model can be loaded (64 MiB for a file, 256 MiB for all; more is a FormatError).
// NotFoundError where there is no such folder or repository, and the errors of
// pretrained/hub/errors.h; FormatError where it is not as `options.lock` says.
PRETRAINED_API Located locate(const std::string& name, const FromPretrained& options = {});
// Fetches the weights too (model[.variant].safetensors, else its shards, else pytorch_model.bin).
PRETRAINED_API void fetch_weights(const Located& model, const FromPretrained& options);
// The code of `options.code`, or of another repository that config.json names: it must be pinned to
// a commit, ArgumentError otherwise.
PRETRAINED_API Located locate_code(const std::string& name, const FromPretrained& options,
                                   std::shared_ptr<const hub::HubClient> client = {});

}  // namespace pretrained
