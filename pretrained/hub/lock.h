#pragma once
// pretrained.lock: every file of a model as it was when somebody checked it. What is used later can
// be held against it, online or offline.
//
//   {"commit": "…", "files": {"config.json": {"sha256": "…", "size": 12}, …},
//    "repository": "org/name", "version": 1}

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::hub {

struct LockedFile {
  std::string sha256;
  uint64_t size = 0;
  bool operator==(const LockedFile&) const = default;
};

struct Lock {
  std::string repository, commit;           // empty: a folder
  std::map<std::string, LockedFile> files;  // by path, '/' between folders
  PRETRAINED_API std::string text() const;
};

// Throws FormatError: anything that is not exactly such a file. `source` is for messages.
PRETRAINED_API Lock parse_lock(std::string_view text, const std::string& source);
// Hashes every file of the folder but hidden ones and pretrained.lock itself. Links may lead into
// the cache of hub clients only (open_inside): else FormatError.
PRETRAINED_API Lock lock_folder(const std::filesystem::path& folder);
// One line for each file that is missing, changed or not in the lock; of all files, or of those
// that match `patterns` (download.h).
PRETRAINED_API std::vector<std::string> check_lock(const std::filesystem::path& folder,
                                                   const Lock& lock,
                                                   const std::vector<std::string>& patterns = {});
// Throws IntegrityError where `bytes`, read from `path` of a snapshot in the cache, are not what
// its blob's name, or the commit's list of files, says: somebody has been at the cache.
PRETRAINED_API void check_cached_bytes(const std::filesystem::path& snapshot,
                                       const std::string& path, std::string_view bytes);
// One line for each file of a snapshot in the cache whose bytes are not what its blob's name, or
// the commit's list of files, says.
PRETRAINED_API std::vector<std::string> check_snapshot(const std::filesystem::path& folder);

}  // namespace pretrained::hub
