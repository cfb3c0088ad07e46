#include "pretrained/hub/download.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/base/text.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/downloader.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/local_dir.h"
#include "pretrained/hub/tree_cache.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMostBytes = uint64_t(1) << 53;  // of a file, and of all that one call asks for

// A blob that the power took away half written, or that somebody cut, comes again.
bool has_size(const fs::path& file, uint64_t size) {
  std::error_code error;
  return fs::file_size(file, error) == size && !error;
}

class CacheFolder : public Destination {
 public:
  CacheFolder(const Cache& cache, Repo repo, std::string commit)
      : cache_(cache), repo_(std::move(repo)), commit_(std::move(commit)) {
    cache_.prepare(repo_);
  }
  FileDescriptor lock(const Wanted& wanted, const std::function<void()>& on_wait) override {
    return cache_.lock(repo_, wanted.file.etag(), on_wait);
  }
  bool reuse(const Wanted& wanted) override {
    if (!cache_.has_blob(repo_, wanted.file.etag()) ||
        !has_size(cache_.blob(repo_, wanted.file.etag()), wanted.file.size))
      return false;
    link(wanted);
    return true;
  }
  fs::path part_base(const Wanted& wanted) override {
    return cache_.blob(repo_, wanted.file.etag());
  }
  void place(const Wanted& wanted, PartFile& part) override {
    part.move_to(cache_.blob(repo_, wanted.file.etag()));
    link(wanted);
  }

 private:
  void link(const Wanted& wanted) {
    for (auto& path : wanted.paths) cache_.link(repo_, commit_, path, wanted.file.etag());
  }
  const Cache& cache_;
  Repo repo_;
  std::string commit_;
};

std::string gigabytes(uint64_t bytes) {
  char text[32];
  snprintf(text, sizeof text, bytes < 100'000'000 ? "%.1f MB" : "%.1f GB",
           double(bytes) / (bytes < 100'000'000 ? 1e6 : 1e9));
  return text;
}

// One call of snapshot_download or hf_hub_download.
class Operation {
 public:
  Operation(const HubClient& client, const Repo& repo, const Download& options)
      : client_(client),
        repo_(repo),
        options_(options),
        cache_(options.cache_dir),
        offline_(client.offline() || options.local_files_only),
        progress_(options.on_transfer) {}

  Snapshot snapshot() {
    commit_ = find_commit();
    auto files = find_files();
    if (!files) return what_is_there();
    std::vector<RemoteFile> chosen;
    for (auto& file : *files)
      if (is_chosen(file.path)) chosen.push_back(file);
    if (chosen.empty() && !files->empty())
      progress_.notice(name() + ": none of its " + std::to_string(files->size()) +
                       " files is what was looked for: " + patterns());
    return fetch(chosen);
  }

  fs::path file(const std::string& path) {
    check_relative(repo_.id, path);
    commit_ = find_commit();
    if (options_.local_dir.empty() && !options_.force_download) {
      if (auto found = cache_.find(repo_, commit_, path)) {
        write_ref();
        return *found;
      }
      if (cache_.known_absent(repo_, commit_, path)) throw_absent(path);
    }
    fetch({find_file(path)});
    return options_.local_dir.empty() ? cache_.snapshot_folder(repo_, commit_) / path
                                      : fs::absolute(options_.local_dir) / path;
  }

 private:
  std::string name() const { return repo_.id + "@" + options_.revision; }

  std::string find_commit() {
    if (is_hex(options_.revision, 40)) return options_.revision;
    if (!offline_) return ask_for_commit();
    if (auto commit = cache_.read_ref(repo_, options_.revision)) return *commit;
    throw OfflineError(name() + ": not in the cache " + cache_.root().string() + hint());
  }

  std::string ask_for_commit() try {
    return client_.resolve_revision(repo_, options_.revision);
  } catch (const NetworkError& error) {
    auto commit = cache_.read_ref(repo_, options_.revision);
    if (!commit) throw;
    throw NetworkError(extended(
        error.what(), "; the cache knows commit " + *commit + ", which HF_HUB_OFFLINE=1 uses"));
  }

  std::string hint() const {
    return "; offline (HF_HUB_OFFLINE or local_files_only): download it once with a connection";
  }

  // Where the listing of this commit is kept.
  fs::path listing_folder() const {
    return options_.local_dir.empty() ? cache_.repo_folder(repo_)
                                      : fs::absolute(options_.local_dir) / ".cache/huggingface";
  }

  std::optional<std::vector<RemoteFile>> known_files() const {
    auto files = read_tree(listing_folder(), commit_);
    return files ? files : read_tree(cache_.repo_folder(repo_), commit_);
  }

  // Nothing where nobody can tell.
  std::optional<std::vector<RemoteFile>> find_files() {
    auto files = known_files();
    if (files || offline_) return files;
    files = client_.list_files(repo_, commit_);
    for (auto& file : *files) check(file);
    try {
      write_tree(listing_folder(), commit_, *files);
    } catch (const IoError&) {
      // A cache that can only be read may hold everything already.
    } catch (const NotFoundError&) {
    }
    return files;
  }

  void check(const RemoteFile& file) const {
    check_relative(repo_.id, file.path);
    if (!is_etag(file.etag()) || file.size > kMostBytes)
      throw IntegrityError(name() + ": " + printable(file.path) + ": the hub lists no valid hash");
  }

  bool is_chosen(const std::string& path) const {
    return (options_.allow_patterns.empty() || matches_any(path, options_.allow_patterns)) &&
           !matches_any(path, options_.ignore_patterns);
  }

  std::string patterns() const {
    std::string text;
    for (auto& pattern : options_.allow_patterns)
      text += (text.empty() ? "" : ", ") + printable(pattern);
    for (auto& pattern : options_.ignore_patterns)
      text += (text.empty() ? "all but " : ", not ") + printable(pattern);
    return text;
  }

  RemoteFile find_file(const std::string& path) {
    auto files = known_files();
    if (!files && offline_)
      throw OfflineError(name() + ": " + printable(path) + " is not in the cache " +
                         cache_.root().string() + hint());
    if (!files) files = client_.paths_info(repo_, commit_, {path});
    for (auto& file : *files)
      if (file.path == path) {
        check(file);
        return file;
      }
    if (!offline_ && options_.local_dir.empty()) cache_.mark_absent(repo_, commit_, path);
    if (!offline_) files = client_.list_files(repo_, commit_);
    std::vector<std::string> paths;
    for (auto& file : *files) paths.push_back(file.path);
    throw_absent(path, suggestion(path, paths));
  }

  [[noreturn]] void throw_absent(const std::string& path, const std::string& more = "") const {
    throw EntryNotFound(name() + ": there is no file " + printable(path) + " in commit " + commit_ +
                        more);
  }

  // Offline and without a listing.
  Snapshot what_is_there() const {
    fs::path folder = options_.local_dir.empty() ? cache_.snapshot_folder(repo_, commit_)
                                                 : fs::absolute(options_.local_dir);
    Snapshot snapshot{folder, commit_, {}, 0};
    std::error_code error;
    for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
         at.increment(error)) {
      std::string path = at->path().lexically_relative(folder).string();
      if (at->is_directory(error) || path.starts_with(".cache/huggingface") || !is_chosen(path))
        continue;
      if (!options_.local_dir.empty() || cache_.find(repo_, commit_, path))
        snapshot.files.push_back(path);
    }
    if (snapshot.files.empty())
      throw OfflineError(name() + ": no file of it is in " + folder.string() + hint());
    std::sort(snapshot.files.begin(), snapshot.files.end());
    return snapshot;
  }

  Snapshot fetch(const std::vector<RemoteFile>& chosen) {
    Snapshot snapshot{cache_.snapshot_folder(repo_, commit_), commit_, {}, 0};
    std::optional<LocalFolder> local;
    if (!options_.local_dir.empty()) {
      local.emplace(options_.local_dir, cache_, repo_, commit_);
      snapshot.folder = fs::absolute(options_.local_dir).lexically_normal();
    }
    uint64_t total = 0;
    for (auto& file : chosen) {
      snapshot.files.push_back(file.path);
      if (file.size > kMostBytes - total)
        throw IntegrityError(name() + ": the hub lists more bytes than there can be");
      total += file.size;
    }
    progress_.plan(chosen.size(), total);
    DownloadPlan plan{client_,
                      repo_,
                      commit_,
                      missing(chosen, local ? &*local : nullptr),
                      options_.max_workers,
                      options_.force_download,
                      options_.xet};
    if (!plan.wanted.empty()) {
      if (offline_) throw_offline(plan.wanted, chosen.size());
      check_limits(plan.wanted);
      if (local) {
        run(plan, *local, snapshot.folder);
      } else {
        CacheFolder folder(cache_, repo_, commit_);
        run(plan, folder, cache_.root());
      }
    }
    if (!local) write_ref();
    snapshot.downloaded = progress_.wire_bytes();
    return snapshot;
  }

  bool is_cached(const RemoteFile& file) const {
    auto found = cache_.find(repo_, commit_, file.path);
    return found && has_size(*found, file.size);
  }

  // Files that are not there, those with equal bytes together.
  std::vector<Wanted> missing(const std::vector<RemoteFile>& chosen, LocalFolder* local) {
    std::vector<Wanted> wanted;
    std::map<std::string, size_t> known;
    for (auto& file : chosen) {
      bool there = !options_.force_download &&
                   (local ? local->is_current(file, file.path) : is_cached(file));
      if (there) {
        progress_.add(file.path, file.size, file.size, file.size);
        progress_.finished(file.path, file.size, "cached");
        continue;
      }
      auto [at, added] = known.emplace(file.etag(), wanted.size());
      if (added) wanted.push_back({file, {}});
      wanted[at->second].paths.push_back(file.path);
    }
    return wanted;
  }

  void check_limits(const std::vector<Wanted>& wanted) const {
    uint64_t total = 0;
    auto refuse = [&](const std::string& what, uint64_t size, uint64_t limit) {
      throw FormatError(name() + ": " + what + " " + gigabytes(size) + ", at most " +
                        gigabytes(limit) + " are fetched unasked: `pretrained download " +
                        repo_.id + "@" + commit_ + "` fetches everything");
    };
    for (auto& [file, paths] : wanted) {
      total += file.size;
      if (options_.max_file_size && file.size > options_.max_file_size)
        refuse(printable(file.path) + " has", file.size, options_.max_file_size);
    }
    if (options_.max_total_size && total > options_.max_total_size)
      refuse("the files that a model is made of besides its weights have", total,
             options_.max_total_size);
  }

  void run(const DownloadPlan& plan, Destination& destination, const fs::path& folder) {
    uint64_t needed = 0;
    for (auto& wanted : plan.wanted)
      needed += wanted.file.size -
                bytes_in_part(destination.part_base(wanted), wanted.file.etag(), wanted.file.size);
    check_space(folder, needed);
    download_all(plan, destination, progress_);
  }

  void check_space(fs::path folder, uint64_t needed) const {
    while (!fs::exists(folder) && folder.has_relative_path()) folder = folder.parent_path();
    struct statvfs disk;
    if (statvfs(folder.c_str(), &disk) != 0) return;  // then writing will tell
    uint64_t free = uint64_t(disk.f_bavail) * disk.f_frsize;
    if (needed > free)
      throw IoError(name() + ": " + gigabytes(needed) + " are to come, only " + gigabytes(free) +
                    " are free in " + folder.string());
  }

  [[noreturn]] void throw_offline(const std::vector<Wanted>& wanted, size_t all) const {
    size_t count = 0;
    for (auto& item : wanted) count += item.paths.size();
    throw OfflineError(name() + ": " + std::to_string(count) + " of " + std::to_string(all) +
                       " files are not in the cache " + cache_.root().string() + " (" +
                       printable(wanted[0].paths[0]) + (count > 1 ? ", …" : "") + ")" + hint());
  }

  // Behind the files: a reference leads to a snapshot that is there.
  void write_ref() const {
    if (offline_) return;
    try {
      fs::create_directories(cache_.snapshot_folder(repo_, commit_));
      cache_.write_ref(repo_, options_.revision, commit_);
    } catch (const IoError&) {
    } catch (const fs::filesystem_error&) {
      // A cache that can only be read: everything was there.
    }
  }

  const HubClient& client_;
  const Repo& repo_;
  const Download& options_;
  Cache cache_;
  bool offline_;
  Progress progress_;
  std::string commit_;
};

}  // namespace

Snapshot snapshot_download(const HubClient& client, const Repo& repo, const Download& options) {
  return Operation(client, repo, options).snapshot();
}

fs::path hf_hub_download(const HubClient& client, const Repo& repo, const std::string& path,
                         const Download& options) {
  return Operation(client, repo, options).file(path);
}

}  // namespace pretrained::hub
