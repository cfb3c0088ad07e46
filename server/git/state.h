#pragma once
// What the files of this room share.

#include <mutex>

#include "server/git/cache.h"
#include "server/git/git_store.h"
#include "server/git/objects.h"
#include "server/git/path_index.h"

namespace pretrained::server {

// What a change wants to remove is not there.
class MissingPath : public NotFoundError {
 public:
  using NotFoundError::NotFoundError;
};

// Removes a scratch folder.
struct ScratchFolder {
  std::filesystem::path path;
  explicit ScratchFolder(BlobStore& blobs) : path(blobs.scratch_folder()) {}
  ScratchFolder(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

// The parts that a GitStore consists of.
struct GitParts {
  using Stored = GitStore::Stored;
  Database& database;
  BlobStore& blobs;
  PushLimits limits;
  Caches caches;
  PathIndex index;
  std::mutex listening;
  int64_t many_packs = 0;
  std::function<void(int64_t repo)> on_many_packs;

  GitParts(Database& database, BlobStore& blobs, const std::filesystem::path& cache_folder,
           PushLimits limits)
      : database(database),
        blobs(blobs),
        limits(limits),
        caches(database, blobs, cache_folder),
        index(database) {}

  // Calls `f` with the current snapshot. The cache may be deleted under it at any time: then it is
  // built anew and `f` called again.
  template <class F>
  auto with_cache(int64_t repo, F&& f) -> decltype(f(std::declval<const Snapshot&>())) {
    for (int attempt = 0;; ++attempt) try {
        return f(caches.current(repo));
      } catch (const MissingPath&) {
        throw;
      } catch (const ArgumentError&) {
        throw;
      } catch (const FormatError&) {
        throw;
      } catch (const DiskFull&) {
        throw;
      } catch (const Error&) {
        if (attempt == 2) throw;
        caches.drop(repo);
      }
  }

  // One transaction: packs, references, `also`. `checked_at`: the generation at which the targets
  // were seen (packs say it themselves). Where it certainly did not happen, the packs' blobs are
  // removed.
  void publish(int64_t repo, const std::vector<Stored>& packs,
               const std::vector<RefUpdate>& updates, std::optional<int64_t> checked_at,
               const std::function<void(Transaction&)>& also);
};

struct GitStore::State : GitParts {
  using GitParts::GitParts;
};

// RefConflict where objects have left the repository since `generation`.
void check_epoch(Transaction& t, int64_t repo, int64_t generation);

// A view of a snapshot; `quarantine`: a folder with objects/ of a push that is not accepted yet.
std::unique_ptr<GitView> make_view(int64_t repo, const Snapshot& snapshot, PathIndex& index,
                                   const std::filesystem::path& quarantine = {});

}  // namespace pretrained::server
