#pragma once
// Bare repositories on disk as a disposable cache: cache/git/<repo>/<n>/ holds hard links to the
// packs, a packed-refs file and HEAD = refs/heads/main. Between repacks a version <n> only grows,
// in place; when packs leave the list, version n + 1 is built aside and renamed into place, so a
// reader of version n keeps every file it may still open. A version is removed once nobody holds
// its lock.

#include <sys/stat.h>

#include <map>
#include <memory>
#include <mutex>

#include "server/git/objects.h"

namespace pretrained::server {

// One version; kept on disk while somebody holds it.
class CacheFolder : public std::enable_shared_from_this<CacheFolder> {
 public:
  explicit CacheFolder(std::filesystem::path path);
  const std::filesystem::path& path() const { return path_; }
  // A libgit2 handle that returns here when its last owner lets go; it keeps the folder too.
  std::shared_ptr<Objects> borrow();

 private:
  std::filesystem::path path_;
  FileDescriptor lock_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Objects>> idle_;
};

// The repository as it was at a generation (or a little later in the same epoch).
struct Snapshot {
  std::shared_ptr<CacheFolder> folder;
  int64_t generation = 0;
};

// Unreachable objects only ever leave with a new epoch, so what was found in a snapshot is still
// there as long as the epoch is the same.
inline constexpr int64_t kEpoch = int64_t{1} << 32;
inline int64_t epoch_of(int64_t generation) { return generation / kEpoch; }

class Caches {
 public:
  Caches(Database& database, BlobStore& blobs, std::filesystem::path folder);
  // The current state, built or brought up to date first. NotFoundError: no such repository.
  Snapshot current(int64_t repo);
  void drop(int64_t repo);

 private:
  struct Entry {
    std::mutex mutex;
    std::shared_ptr<CacheFolder> folder;
    int64_t generation = -1;
    timespec packs_changed{};
  };
  struct Truth;  // what the database says
  std::shared_ptr<Entry> entry(int64_t repo);
  Truth read_truth(int64_t repo);
  void update(int64_t repo, Entry& entry);
  void fill(const std::filesystem::path& folder, const Truth& truth);

  Database& database_;
  BlobStore& blobs_;
  std::filesystem::path folder_;
  std::mutex mutex_;
  std::map<int64_t, std::shared_ptr<Entry>> entries_;
};

}  // namespace pretrained::server
