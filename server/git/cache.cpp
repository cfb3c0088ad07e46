#include "server/git/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxIdleHandles = 2;  // per repository
constexpr size_t kMaxEntries = 512;

// Old or new at any moment, but not durable: a cache needs no fsync.
void replace_file(const fs::path& path, const std::string& text) {
  fs::path fresh = path.string() + ".new-" + random_hex(8);
  FileDescriptor file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  size_t done = 0;
  while (file.get() >= 0 && done < text.size()) {
    ssize_t put = write(file.get(), text.data() + done, text.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) break;
    done += size_t(put);
  }
  if (file.get() >= 0 && done == text.size() && rename(fresh.c_str(), path.c_str()) == 0) return;
  std::string reason = std::strerror(errno);
  unlink(fresh.c_str());
  throw IoError(path.string() + ": " + reason);
}

void link_file(const fs::path& blob, const fs::path& target) {
  if (link(blob.c_str(), target.c_str()) == 0 || errno == EEXIST) return;
  if (errno == ENOENT) throw NotFoundError(target.string() + ": " + std::strerror(errno));
  // Another disk, or a file system without hard links.
  fs::path fresh = target.string() + ".new-" + random_hex(8);
  fs::copy_file(blob, fresh);
  fs::rename(fresh, target);
}

timespec changed_at(const fs::path& folder) {
  struct stat status{};
  return stat(folder.c_str(), &status) == 0 ? status.st_mtim : timespec{};
}

bool same(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec && a.tv_sec != 0;
}

bool is_there(const fs::path& path) { return access(path.c_str(), F_OK) == 0; }

// Removes a version that nobody reads any more.
void remove_if_idle(const fs::path& version) {
  FileDescriptor lock(open((version / "lock").c_str(), O_RDWR | O_CLOEXEC));
  if (lock.get() >= 0 && flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return;
  std::error_code ignored;
  fs::remove_all(version, ignored);
}

// The numbers of the versions in a repository's folder, and of the one that is current.
struct Versions {
  int64_t last = 0, current = 0;  // 0: none
  std::vector<fs::path> old;
};

Versions find_versions(const fs::path& folder) {
  Versions found;
  for (auto& item : fs::directory_iterator(folder)) {
    std::string name = item.path().filename();
    if (name.find_first_not_of("0123456789") != name.npos || name.size() > 15) continue;
    found.last = std::max(found.last, int64_t(std::stoll(name)));
  }
  fs::path newest = folder / std::to_string(found.last);
  if (found.last > 0 && !is_there(newest / "dropped")) found.current = found.last;
  for (auto& item : fs::directory_iterator(folder)) {
    std::string name = item.path().filename();
    bool unfinished = name.rfind("new-", 0) == 0;
    bool numbered = name.find_first_not_of("0123456789") == name.npos;
    if (unfinished || (numbered && name != std::to_string(found.current)))
      found.old.push_back(item.path());
  }
  return found;
}

}  // namespace

CacheFolder::CacheFolder(fs::path path) : path_(std::move(path)) {
  lock_ = FileDescriptor(open((path_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock_.get() < 0) throw IoError(path_.string() + ": " + std::strerror(errno));
  while (flock(lock_.get(), LOCK_SH) != 0)
    if (errno != EINTR) throw IoError(path_.string() + ": " + std::strerror(errno));
}

std::shared_ptr<Objects> CacheFolder::borrow() {
  std::unique_ptr<Objects> handle;
  {
    std::lock_guard guard(mutex_);
    if (!idle_.empty()) {
      handle = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!handle) handle = std::make_unique<Objects>(std::vector<fs::path>{path_ / "objects"});
  return {handle.release(), [self = shared_from_this()](Objects* objects) {
            std::unique_ptr<Objects> owner(objects);
            std::lock_guard guard(self->mutex_);
            if (self->idle_.size() < kMaxIdleHandles) self->idle_.push_back(std::move(owner));
          }};
}

struct Caches::Truth {
  struct Pack {
    std::string checksum, pack_blob, index_blob;
  };
  int64_t generation = 0;
  std::vector<Pack> packs;
  std::string packed_refs;
};

Caches::Caches(Database& database, BlobStore& blobs, fs::path folder)
    : database_(database), blobs_(blobs), folder_(std::move(folder)) {
  fs::create_directories(folder_);
}

std::shared_ptr<Caches::Entry> Caches::entry(int64_t repo) {
  std::lock_guard guard(mutex_);
  if (entries_.size() > kMaxEntries)
    std::erase_if(entries_, [](auto& item) { return item.second.use_count() == 1; });
  auto& found = entries_[repo];
  if (!found) found = std::make_shared<Entry>();
  return found;
}

Snapshot Caches::current(int64_t repo) {
  auto row = database_.read(
      [&](Transaction& t) { return t.one("SELECT generation FROM repos WHERE id = ?", repo); });
  if (!row) throw NotFoundError("repository " + std::to_string(repo) + ": does not exist");
  std::shared_ptr<Entry> mine = entry(repo);
  std::lock_guard guard(mine->mutex);
  bool fresh = mine->folder && mine->generation >= row->integer(0) &&
               same(mine->packs_changed, changed_at(mine->folder->path() / "objects/pack")) &&
               is_there(mine->folder->path() / "packed-refs");
  if (!fresh) update(repo, *mine);
  return {mine->folder, mine->generation};
}

Caches::Truth Caches::read_truth(int64_t repo) {
  return database_.read([&](Transaction& t) {
    auto row = t.one("SELECT generation FROM repos WHERE id = ?", repo);
    if (!row) throw NotFoundError("repository " + std::to_string(repo) + ": does not exist");
    Truth truth{row->integer(0), {}, "# pack-refs with: sorted \n"};
    for (auto& pack :
         t.query("SELECT checksum, pack_blob, index_blob FROM packs WHERE repo = ?", repo))
      truth.packs.push_back({pack.text(0), pack.text(1), pack.text(2)});
    for (auto& ref : t.query("SELECT target, name FROM refs WHERE repo = ? ORDER BY name", repo))
      truth.packed_refs += ref.text(0) + " " + ref.text(1) + "\n";
    return truth;
  });
}

// Everything that is missing, in an order in which a reader may look at any time.
void Caches::fill(const fs::path& folder, const Truth& truth) {
  fs::path packs = folder / "objects/pack";
  fs::create_directories(packs);
  fs::create_directories(folder / "refs");
  for (auto& pack : truth.packs) {
    std::string base = (packs / ("pack-" + pack.checksum)).string();
    if (is_there(base + ".pack") && is_there(base + ".idx")) continue;
    link_file(blobs_.local_path(pack.pack_blob), base + ".pack");
    link_file(blobs_.local_path(pack.index_blob), base + ".idx");
  }
  replace_file(folder / "packed-refs", truth.packed_refs);
  if (!is_there(folder / "config"))
    replace_file(folder / "config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n");
  if (!is_there(folder / "HEAD")) replace_file(folder / "HEAD", "ref: refs/heads/main\n");
}

void Caches::update(int64_t repo, Entry& entry) {
  fs::path home = folder_ / std::to_string(repo);
  for (int attempt = 0;; ++attempt) try {
      fs::create_directories(home);
      FileLock lock(home / "lock");
      Truth truth = read_truth(repo);  // within the lock: never older than what is on disk
      Versions versions = find_versions(home);
      fs::path version = home / std::to_string(versions.current);
      std::set<std::string> listed;
      for (auto& pack : truth.packs) {
        listed.insert("pack-" + pack.checksum + ".pack");
        listed.insert("pack-" + pack.checksum + ".idx");
      }
      bool grows = versions.current > 0;
      if (grows && is_there(version / "objects/pack"))
        for (auto& file : fs::directory_iterator(version / "objects/pack"))
          grows = grows && listed.count(file.path().filename()) > 0;
      if (grows) {
        fill(version, truth);
      } else {
        fs::path fresh = home / ("new-" + random_hex(12));
        fill(fresh, truth);
        replace_file(fresh / "lock", "");
        if (versions.current > 0) versions.old.push_back(version);
        version = home / std::to_string(versions.last + 1);
        fs::rename(fresh, version);
      }
      if (!entry.folder || entry.folder->path() != version || !grows)
        entry.folder = std::make_shared<CacheFolder>(version);
      entry.generation = truth.generation;
      entry.packs_changed = changed_at(version / "objects/pack");
      for (auto& old : versions.old) remove_if_idle(old);
      return;
    } catch (const fs::filesystem_error& error) {
      if (attempt >= 3) throw IoError(std::string("git cache: ") + error.what());
    } catch (const NotFoundError&) {
      // A pack left the list, or somebody removed the folder, while we looked.
      if (attempt >= 3) throw;
    } catch (const IoError&) {
      if (attempt >= 3) throw;
    }
}

void Caches::drop(int64_t repo) {
  std::shared_ptr<Entry> mine = entry(repo);
  std::lock_guard guard(mine->mutex);
  mine->folder.reset();
  mine->generation = -1;
  fs::path home = folder_ / std::to_string(repo);
  std::error_code ignored;
  if (!fs::exists(home, ignored)) return;
  FileLock lock(home / "lock");
  Versions versions = find_versions(home);
  if (versions.current > 0) {
    // The number stays taken while a reader is in there, so the next one is built anew.
    replace_file(home / std::to_string(versions.current) / "dropped", "");
    versions.old.push_back(home / std::to_string(versions.current));
  }
  for (auto& old : versions.old) remove_if_idle(old);
}

}  // namespace pretrained::server
