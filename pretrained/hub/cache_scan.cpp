#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/cache.h"
#include "pretrained/hub/tree_cache.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

// Nothing for a folder that no client makes: somebody else's, a copy with another name.
std::optional<Repo> repo_of(const Cache& cache, const fs::path& path) {
  std::string folder = path.filename();
  static const std::pair<const char*, RepoType> types[] = {{"models--", RepoType::model},
                                                           {"datasets--", RepoType::dataset},
                                                           {"spaces--", RepoType::space}};
  for (auto& [prefix, type] : types) {
    if (!folder.starts_with(prefix)) continue;
    std::string id = folder.substr(std::string_view(prefix).size());
    if (size_t at = id.find("--"); at != id.npos) id.replace(at, 2, "/");
    try {
      Repo repo{id, type};
      if (cache.repo_folder(repo) == path) return repo;
    } catch (const ArgumentError&) {
    }
  }
  return std::nullopt;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    found.push_back(at->path());
  std::sort(found.begin(), found.end());
  return found;
}

// Regular files and links below, in order; links to folders are not followed.
std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error))
    if (at->is_symlink() || at->is_regular_file()) found.push_back(at->path());
  std::sort(found.begin(), found.end());
  return found;
}

// What a file of a snapshot costs: the blob behind it (the first link only: a blob may be a link
// into the store that others share).
fs::path blob_behind(const fs::path& file) {
  std::error_code error;
  if (!fs::is_symlink(fs::symlink_status(file))) return file;
  return (file.parent_path() / fs::read_symlink(file, error)).lexically_normal();
}

std::string relative_name(const fs::path& file, const fs::path& folder) {
  return file.lexically_relative(folder).string();
}

// Every file that a revision leads to, once.
struct Counted {
  std::set<fs::path> blobs;
  uint64_t size = 0;
  int64_t last_modified = 0;

  bool add(const fs::path& blob) {
    struct stat status;
    if (stat(blob.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
    if (!blobs.insert(blob).second) return true;
    size += uint64_t(status.st_size);
    last_modified = std::max<int64_t>(last_modified, status.st_mtime);
    return true;
  }
};

std::map<std::string, std::vector<std::string>> read_refs(const Cache& cache, CachedRepo& repo) {
  std::map<std::string, std::vector<std::string>> refs;
  fs::path folder = repo.folder / "refs";
  for (auto& file : files_below(folder)) {
    std::string name = relative_name(file, folder);
    try {
      if (auto commit = cache.read_ref(repo.repo, name)) refs[*commit].push_back(name);
    } catch (const Error& error) {
      repo.problems.push_back(error.what());
    }
  }
  return refs;
}

CachedRevision scan_revision(const Cache& cache, CachedRepo& repo, const fs::path& snapshot,
                             Counted& all) {
  CachedRevision revision;
  revision.commit = snapshot.filename();
  Counted counted;
  for (auto& file : files_below(snapshot)) {
    std::string name = relative_name(file, snapshot);
    try {
      if (!cache.find(repo.repo, revision.commit, name)) {
        repo.problems.push_back(file.string() + ": a link to nothing");
        continue;
      }
    } catch (const Error& error) {
      repo.problems.push_back(error.what());
      continue;
    }
    ++revision.files;
    counted.add(blob_behind(file));
    all.add(blob_behind(file));
  }
  revision.size = counted.size;
  struct stat status;
  bool empty = counted.blobs.empty() && stat(snapshot.c_str(), &status) == 0;
  revision.last_modified = empty ? status.st_mtime : counted.last_modified;
  return revision;
}

CachedRepo scan_repo(const Cache& cache, const Repo& id) {
  CachedRepo repo{id, cache.repo_folder(id), 0, {}, {}};
  auto refs = read_refs(cache, repo);
  Counted all;
  for (auto& snapshot : entries(repo.folder / "snapshots")) {
    if (!is_hex(snapshot.filename().string(), 40) ||
        !fs::is_directory(fs::symlink_status(snapshot))) {
      repo.problems.push_back(snapshot.string() + ": no folder of a commit");
      continue;
    }
    auto revision = scan_revision(cache, repo, snapshot, all);
    if (auto found = refs.find(revision.commit); found != refs.end()) {
      revision.refs = found->second;
      refs.erase(found);
    }
    repo.revisions.push_back(std::move(revision));
  }
  for (auto& [commit, names] : refs)
    for (auto& name : names)
      repo.problems.push_back((repo.folder / "refs" / name).string() + ": its commit " + commit +
                              " is not in the cache");
  repo.size = all.size;
  return repo;
}

uint64_t remove_blob(const fs::path& blob) {
  struct stat status;
  if (lstat(blob.c_str(), &status) != 0 || unlink(blob.c_str()) != 0) return 0;
  // A link's target belongs to Python's shared store; another name keeps the bytes.
  return S_ISREG(status.st_mode) && status.st_nlink == 1 ? uint64_t(status.st_size) : 0;
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) throw_errno(folder.string(), error.value());
}

std::set<fs::path> blobs_of(const fs::path& snapshot) {
  std::set<fs::path> blobs;
  for (auto& file : files_below(snapshot)) blobs.insert(blob_behind(file));
  return blobs;
}

bool is_named(const Cache& cache, const Repo& repo, const std::string& commit) {
  fs::path folder = cache.repo_folder(repo) / "refs";
  auto files = files_below(folder);
  return std::ranges::any_of(files, [&](auto& file) {
    return cache.read_ref(repo, relative_name(file, folder)) == commit;
  });
}

// What a link leads to is somebody else's.
void check_no_links(const fs::path& folder) {
  std::vector<fs::path> parts{folder};
  for (auto* part : {"refs", "snapshots", "blobs", ".no_exist", "trees"})
    parts.push_back(folder / part);
  for (auto& part : parts)
    if (fs::is_symlink(fs::symlink_status(part)))
      throw FormatError(part.string() +
                        ": a link in place of the folder; nothing is removed behind it");
}

uint64_t remove_revision(const Cache& cache, const Repo& repo, const std::string& commit) {
  fs::path folder = cache.repo_folder(repo), snapshot = cache.snapshot_folder(repo, commit);
  check_no_links(folder);
  if (!fs::is_directory(fs::symlink_status(snapshot)))
    throw NotFoundError(repo.id + ": commit " + commit + " is not in the cache");
  // First the names, then what they stand for: nobody is led to something half gone.
  for (auto& file : files_below(folder / "refs")) {
    std::string name = relative_name(file, folder / "refs");
    if (cache.read_ref(repo, name) == commit) unlink(file.c_str());
  }
  std::set<fs::path> unused = blobs_of(snapshot);
  for (auto& other : entries(folder / "snapshots"))
    if (other != snapshot)
      for (auto& blob : blobs_of(other)) unused.erase(blob);
  uint64_t freed = 0;
  for (auto& file : files_below(snapshot)) freed += remove_blob(file);
  remove_folder(snapshot);
  for (auto& blob : unused)
    if (blob.parent_path() == folder / "blobs" && is_etag(blob.filename().string())) {
      auto lock = cache.lock(repo, blob.filename());
      freed += remove_blob(blob);
    }
  remove_folder(folder / ".no_exist" / commit);
  unlink((folder / "trees" / (commit + ".json")).c_str());
  return freed;
}

std::string damage(const fs::path& file, const std::string& etag) {
  std::string found = hash_blob(file, etag);
  return found == etag ? "" : file.string() + ": its bytes have the hash " + found;
}

}  // namespace

std::vector<CachedRepo> scan_cache(const Cache& cache) {
  std::vector<CachedRepo> repos;
  for (auto& folder : entries(cache.root())) {
    auto repo = repo_of(cache, folder);
    if (repo && fs::is_directory(fs::symlink_status(folder)))
      repos.push_back(scan_repo(cache, *repo));
  }
  return repos;
}

uint64_t remove_cached(const Cache& cache, const Repo& repo, const std::string& revision) {
  fs::path folder = cache.repo_folder(repo);
  std::string commit;
  if (!revision.empty()) commit = cache.read_ref(repo, revision).value_or(revision);
  if (commit != revision) {
    check_no_links(folder);
    unlink((folder / "refs" / revision).c_str());
    if (is_named(cache, repo, commit)) return 0;
  }
  uint64_t freed = commit.empty() ? 0 : remove_revision(cache, repo, commit);
  // The last revision takes the folder along, as in Python.
  if (!commit.empty() && !entries(folder / "snapshots").empty()) return freed;
  if (!fs::is_directory(fs::symlink_status(folder)))
    throw NotFoundError(repo.id + " is not in the cache " + cache.root().string());
  remove_folder(folder / "refs");
  for (auto& file : files_below(folder)) freed += remove_blob(file);
  remove_folder(folder);
  return freed;
}

std::vector<std::string> verify_cached(const Cache& cache, const Repo& repo) {
  std::vector<std::string> problems = scan_repo(cache, repo).problems;
  auto check = [&](const fs::path& file, const std::string& etag) {
    try {
      if (auto problem = damage(file, etag); !problem.empty()) problems.push_back(problem);
    } catch (const Error& error) {
      problems.push_back(error.what());
    }
  };
  fs::path folder = cache.repo_folder(repo);
  for (auto& blob : entries(folder / "blobs"))
    if (is_etag(blob.filename().string())) check(blob, blob.filename());
  // Where there are no links the listing knows what a file must be.
  for (auto& snapshot : entries(folder / "snapshots"))
    for (auto& file : read_tree(folder, snapshot.filename()).value_or(std::vector<RemoteFile>{}))
      if (fs::is_regular_file(fs::symlink_status(snapshot / file.path)))
        check(snapshot / file.path, file.etag());
  return problems;
}

}  // namespace pretrained::hub
