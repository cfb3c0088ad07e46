#pragma once
// Several files of one folder that change together. They are written into a hidden folder,
// .pretrained-save; then its journal.json, which names them, makes the change real; then they are
// moved to their places. A process killed before the journal leaves the old files, one killed after
// it leaves a change that the next reader or writer finishes: old or new, never a mixture.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pretrained/base/export.h"
#include "pretrained/base/files.h"

namespace pretrained {

class PRETRAINED_API FolderUpdate {
 public:
  // Makes the folder where there is none; waits while another FolderUpdate of it lives; finishes or
  // sweeps what a killed one left. Throws IoError, FormatError.
  explicit FolderUpdate(std::filesystem::path folder);
  ~FolderUpdate();  // without commit() nothing has changed
  FolderUpdate(const FolderUpdate&) = delete;

  // A file of the folder, "config.json" or "layers/head.h", to fill with write(). Names that lead
  // out of the folder are a FormatError.
  AtomicFile& add(const std::string& name);
  void remove(const std::string& name);
  // Files that are already there with the same bytes are left alone: where one file changes, that
  // is one rename, and every reader sees the old or the new one.
  void commit();
  const std::filesystem::path& folder() const { return folder_; }

 private:
  void drop_unchanged();
  std::filesystem::path folder_;
  FileDescriptor root_;
  std::vector<std::string> names_, removed_;
  std::vector<std::unique_ptr<AtomicFile>> files_;
  bool decided_ = false;
};

// Finishes the change that a killed process has left in `folder`; waits for a living one that is at
// it. Costs one look where there is none. Throws IoError where the folder cannot be written, and
// FormatError for a journal that was not made in this very folder: a copied or downloaded one could
// exchange files that somebody has already read and trusts.
PRETRAINED_API void finish_update(const std::filesystem::path& folder);

}  // namespace pretrained
