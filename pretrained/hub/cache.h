#pragma once
// The cache on disk that Python's clients use too, at the same time:
//
//   hub/CACHEDIR.TAG
//   hub/.locks/models--org--name/<etag>.lock     flock(2); kept for ever
//   hub/models--org--name/
//     blobs/<etag>                   a file's bytes: SHA-256 (LFS) or git blob id (others)
//     refs/<revision>                the commit it stood for when it was last asked, no newline
//     snapshots/<commit>/<path>      relative symbolic links into blobs/ (or files, where there are
//                                    no links)
//     .no_exist/<commit>/<path>      known to be absent
//   hub/blobs/<hh>/<xet hash>        Python's shared store: blobs/<etag> may be a link to it; read
//                                    here, never written
//
//   hub/models--org--name/trees/<commit>.json    the files of a commit (tree_cache.h)
//
// A blob is there whole and checked, or not there. Ours while they come:
// blobs/<etag>.pretrained.part and .pretrained.ranges (which are done), both under the lock.
// Any number of threads and processes.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/base/files.h"
#include "pretrained/hub/client.h"

namespace pretrained::hub {

class PRETRAINED_API Cache {
 public:
  explicit Cache(std::filesystem::path root = {});  // empty: cache_folder()

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path repo_folder(const Repo& repo) const;
  std::filesystem::path snapshot_folder(const Repo& repo, const std::string& commit) const;
  // FormatError unless the etag is 40 or 64 hex digits.
  std::filesystem::path blob(const Repo& repo, const std::string& etag) const;
  // Whether it is there: a file, or a link into Python's shared store.
  bool has_blob(const Repo& repo, const std::string& etag) const;

  // The commit of a revision as it was last seen; a commit id is itself.
  std::optional<std::string> read_ref(const Repo& repo, const std::string& revision) const;
  // Only where it differs; after the snapshot is there.
  void write_ref(const Repo& repo, const std::string& revision, const std::string& commit) const;
  // The file where it is complete in the snapshot; links are followed into blobs/ only.
  std::optional<std::filesystem::path> find(const Repo& repo, const std::string& commit,
                                            const std::string& path) const;
  bool known_absent(const Repo& repo, const std::string& commit, const std::string& path) const;
  void mark_absent(const Repo& repo, const std::string& commit, const std::string& path) const;
  // The link snapshots/<commit>/<path> → blobs/<etag>, replacing whatever is there.
  std::filesystem::path link(const Repo& repo, const std::string& commit, const std::string& path,
                             const std::string& etag) const;
  // Waits; `on_wait` is called again and again while somebody else holds it, and throws to give up.
  FileDescriptor lock(const Repo& repo, const std::string& etag,
                      const std::function<void()>& on_wait = {}) const;
  // Makes folders and CACHEDIR.TAG. IoError where the root cannot be written.
  void prepare(const Repo& repo) const;

 private:
  std::filesystem::path root_;
};

// The same lock and tag for folders that are no cache (Download::local_dir). Internal.
FileDescriptor lock_file(const std::filesystem::path& path, const std::function<void()>& on_wait);
void tag_cache_folder(const std::filesystem::path& folder);

// What is in a cache: `pretrained cache ls|rm|verify`.
struct CachedRevision {
  std::string commit;
  std::vector<std::string> refs;
  uint64_t size = 0, files = 0;
  int64_t last_modified = 0;  // Unix seconds
};
struct CachedRepo {
  Repo repo;
  std::filesystem::path folder;
  uint64_t size = 0;  // of blobs, shared ones counted once
  std::vector<CachedRevision> revisions;
  std::vector<std::string> problems;  // dangling links, references without snapshot
};
PRETRAINED_API std::vector<CachedRepo> scan_cache(const Cache& cache);
// Removes a repository or one revision of it and the blobs nobody else links to; files of Python's
// shared store stay. A commit goes with all of its branches and tags; a branch or tag goes alone
// where another names its commit too. Returns the bytes freed.
PRETRAINED_API uint64_t remove_cached(const Cache& cache, const Repo& repo,
                                      const std::string& revision = "");
// Hashes every blob again: one line per file whose bytes are not what its name says.
PRETRAINED_API std::vector<std::string> verify_cached(const Cache& cache, const Repo& repo);

}  // namespace pretrained::hub
