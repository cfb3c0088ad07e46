#include "server/storage/blobs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "server/storage/database.h"
#include "server/storage/durable.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr size_t kProcessDigits = 16;
constexpr uint64_t kReserveCheckBytes = 32 << 20;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }
bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '.' || c == '_' ||
         c == '-';
}
bool is_kind(std::string_view text) {
  return !text.empty() && text.size() <= 32 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}
// Starts with the two digits of its sub-folder, so it is neither hidden nor ".." nor an option.
bool is_leaf(std::string_view text) {
  return text.size() >= 2 && text.size() <= 200 && is_hex(text[0]) && is_hex(text[1]) &&
         std::all_of(text.begin(), text.end(), is_name_char);
}
bool is_process(std::string_view text) {
  return text.size() == kProcessDigits && std::all_of(text.begin(), text.end(), is_hex);
}

// "xorbs/ab/abcd.0123456789abcdef.7" in its parts.
struct BlobName {
  std::string kind, leaf, process;
};

// The <process> of "<name>.<process>.<n>"; empty where it is no such name.
std::string process_of(const std::string& leaf) {
  size_t last = leaf.rfind('.');
  if (!is_leaf(leaf) || last == leaf.npos || last < kProcessDigits + 3) return "";
  size_t first = last - kProcessDigits - 1;
  std::string process = leaf.substr(first + 1, kProcessDigits);
  bool number =
      last + 1 < leaf.size() && std::all_of(leaf.begin() + int64_t(last) + 1, leaf.end(), is_digit);
  return leaf[first] == '.' && number && is_process(process) ? process : "";
}

BlobName parse_name(const std::string& name) {
  size_t slash = name.find('/');
  if (slash != name.npos && name.size() > slash + 4 && name[slash + 3] == '/') {
    BlobName parts{name.substr(0, slash), name.substr(slash + 4), ""};
    parts.process = process_of(parts.leaf);
    if (is_kind(parts.kind) && !parts.process.empty() &&
        name.compare(slash + 1, 2, parts.leaf, 0, 2) == 0)
      return parts;
  }
  throw FormatError("blob name '" + printable(name) +
                    "': expected kind/ab/ab….process.number, as publish() gave it");
}

uint64_t free_bytes(const fs::path& path) {
  struct statvfs status;
  if (statvfs(path.c_str(), &status) != 0) throw_io(path, errno);
  return uint64_t(status.f_bavail) * status.f_frsize;
}

void check_reserve(const fs::path& path, uint64_t expected, uint64_t reserve) {
  uint64_t free = free_bytes(path);
  if (free >= reserve && free - reserve >= expected) return;
  throw DiskFull(path.string() + ": " + std::to_string(free) + " bytes are free, " +
                 std::to_string(expected) + " more are to be written and " +
                 std::to_string(reserve) + " must stay free");
}

void make_folder(const fs::path& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) throw_io(folder, errno);
}

// The names in a folder but "." and ".."; none where it does not exist.
std::vector<std::string> entries(const fs::path& folder) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder.c_str()), closedir);
  if (!dir && errno == ENOENT) return {};
  if (!dir) throw_io(folder, errno);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    dirent* entry = readdir(dir.get());
    if (!entry && errno != 0) throw_io(folder, errno);
    if (!entry) return names;
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
}

// Locks a lease that nobody holds: its process is dead. It must not be made here.
bool lock_if_dead(const fs::path& path, FileDescriptor& lock) {
  lock = FileDescriptor(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (lock.get() < 0 && errno == ENOENT) return true;
  if (lock.get() < 0) throw_io(path, errno);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return true;
  if (errno != EWOULDBLOCK) throw_io(path, errno);
  return false;
}

}  // namespace

// StagedBlob --------------------------------------------------------------------------------------

StagedBlob::StagedBlob(fs::path path, uint64_t reserve)
    : path_(std::move(path)), reserve_(reserve) {
  file_ = FileDescriptor(open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file_.get() < 0) {
    int error = errno;
    fs::path wanted = std::exchange(path_, {});
    throw_io(wanted, error);
  }
}

StagedBlob::StagedBlob(StagedBlob&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      file_(std::move(other.file_)),
      size_(other.size_),
      reserve_(other.reserve_),
      bypassing_(other.bypassing_) {}

StagedBlob& StagedBlob::operator=(StagedBlob&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(size_, other.size_);
  std::swap(reserve_, other.reserve_);
  std::swap(bypassing_, other.bypassing_);
  return *this;
}

StagedBlob::~StagedBlob() {
  if (!path_.empty()) unlink(path_.c_str());
}

void StagedBlob::write(std::string_view bytes) {
  if (size_ / kReserveCheckBytes != (size_ + bytes.size()) / kReserveCheckBytes)
    check_reserve(path_, bytes.size(), reserve_);
  while (!bytes.empty()) {
    ssize_t put = ::write(file_.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EINVAL && std::exchange(bypassing_, false)) {
      bypass_cache(false);  // a file system that only said that it could
      continue;
    }
    if (put < 0) throw_io(path_, errno);
    bytes.remove_prefix(size_t(put));
    size_ += uint64_t(put);
  }
}

void StagedBlob::bypass_cache(bool bypass) {
  int flags = fcntl(file_.get(), F_GETFL);
  bypassing_ =
      fcntl(file_.get(), F_SETFL, bypass ? flags | O_DIRECT : flags & ~O_DIRECT) == 0 && bypass;
}

std::string FilePiece::read() const {
  std::string bytes(size, '\0');
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(fd, bytes.data() + done, size - done, off_t(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw_io("a staged file", got < 0 ? errno : EIO);
    done += size_t(got);
  }
  return bytes;
}

// BlobStore ---------------------------------------------------------------------------------------

struct BlobStore::Lease {
  std::string process;
  FileDescriptor lock;
  std::atomic<uint64_t> counter = 0;
  std::mutex mutex;
  std::set<std::string> durable_folders;  // sub-folders that this process knows to be durable

  // The lease appears under its name already locked, so nobody ever takes it for a dead one's.
  explicit Lease(const fs::path& folder) : process(random_hex(kProcessDigits)) {
    fs::path path = folder / process, fresh = folder / (process + ".new");
    for (;;) {
      lock = FileDescriptor(::open(fresh.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      if (lock.get() < 0) throw_io(fresh, errno);
      while (flock(lock.get(), LOCK_EX) != 0)
        if (errno != EINTR) throw_io(fresh, errno);
      if (rename(fresh.c_str(), path.c_str()) == 0) return;
      if (errno != ENOENT) throw_io(fresh, errno);
      // A sweep locked and removed it between the two calls: once more.
    }
  }

  std::string next() { return std::to_string(counter++); }
};

BlobStore::BlobStore(const fs::path& folder, uint64_t reserve)
    : folder_(folder), reserve_(reserve) {
  make_folder(folder_);
  for (auto* name : {"blobs", "tmp", "leases"}) make_folder(folder_ / name);
  sync_folder(folder_);
  lease_ = std::make_unique<Lease>(folder_ / "leases");
  make_folder(folder_ / "tmp" / lease_->process);
}

BlobStore::~BlobStore() {
  std::error_code ignored;
  fs::remove_all(folder_ / "tmp" / lease_->process, ignored);
  fs::remove(folder_ / "leases" / lease_->process, ignored);
}

void BlobStore::check_space() { check_reserve(folder_, 0, reserve_); }

StagedBlob BlobStore::stage(uint64_t expected) {
  fs::path tmp = folder_ / "tmp" / lease_->process;
  check_reserve(tmp, expected, reserve_);
  return StagedBlob(tmp / lease_->next(), reserve_);
}

fs::path BlobStore::scratch_folder() {
  fs::path path = folder_ / "tmp" / lease_->process / (lease_->next() + ".d");
  if (mkdir(path.c_str(), 0700) != 0) throw_io(path, errno);
  return path;
}

// An existing folder may be another process's that has not reached the disk yet: every process
// syncs each once.
void BlobStore::make_durable_folder(const std::string& name) {
  std::lock_guard lock(lease_->mutex);
  if (lease_->durable_folders.count(name)) return;
  fs::path folder = folder_ / "blobs" / name;
  make_folder(folder);
  sync_folder(folder.parent_path());
  lease_->durable_folders.insert(name);
}

std::string BlobStore::publish(StagedBlob&& staged, const std::string& proposed) {
  StagedBlob blob = std::move(staged);
  size_t slash = proposed.find('/');
  std::string kind = proposed.substr(0, slash);
  std::string leaf = slash == proposed.npos ? "" : proposed.substr(slash + 1);
  if (!is_kind(kind) || !is_leaf(leaf) || leaf.size() > 150)
    throw FormatError("proposed blob name '" + printable(proposed) +
                      "': expected kind/name, the name at most 150 letters, digits, '.', '_' or "
                      "'-' after two lower-case hex digits");
  leaf += "." + lease_->process + "." + lease_->next();
  std::string sub_folder = kind + "/" + leaf.substr(0, 2);
  fs::path target = folder_ / "blobs" / sub_folder / leaf;

  make_durable_folder(kind);
  make_durable_folder(sub_folder);
  // Nobody knows the name yet, so the file may get it first: journals then take both in one go.
  if (rename(blob.path_.c_str(), target.c_str()) != 0) throw_io(target, errno);
  blob.path_ = target;  // from here on an error removes it there
  if (fsync(blob.fd()) != 0) throw_io(target, errno);
  sync_folder(target.parent_path());
  blob.path_.clear();
  return sub_folder + "/" + leaf;
}

fs::path BlobStore::local_path(const std::string& name) const {
  parse_name(name);
  return folder_ / "blobs" / name;
}

FileDescriptor BlobStore::open(const std::string& name) const {
  fs::path path = local_path(name);
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.get() < 0) throw_io(path, errno);
  return file;
}

uint64_t BlobStore::size(const std::string& name) const {
  fs::path path = local_path(name);
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) throw_io(path, errno);
  return uint64_t(status.st_size);
}

void BlobStore::remove(const std::string& name) {
  fs::path path = local_path(name);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) throw_io(path, errno);
}

void BlobStore::each(const std::string& kind,
                     const std::function<void(const std::string&, uint64_t)>& visit) const {
  if (!is_kind(kind)) throw ArgumentError("blob kind '" + printable(kind) + "'");
  fs::path top = folder_ / "blobs" / kind;
  for (auto& sub_folder : entries(top)) {
    if (sub_folder.size() != 2) continue;
    for (auto& leaf : entries(top / sub_folder)) {
      if (process_of(leaf).empty() || leaf.compare(0, 2, sub_folder) != 0) continue;
      struct stat status;
      if (lstat((top / sub_folder / leaf).c_str(), &status) != 0) {
        if (errno == ENOENT) continue;  // removed meanwhile
        throw_io(top / sub_folder / leaf, errno);
      }
      visit(kind + "/" + sub_folder + "/" + leaf, uint64_t(status.st_size));
    }
  }
}

uint64_t BlobStore::sweep(const std::string& kind,
                          const std::function<bool(const std::string&)>& known) {
  sweep_scratch();
  std::map<std::string, bool> dead;
  uint64_t freed = 0;
  each(kind, [&](const std::string& name, uint64_t size) {
    std::string process = parse_name(name).process;
    auto [found, fresh] = dead.try_emplace(process);
    if (fresh) {
      FileDescriptor lock;
      found->second = lock_if_dead(folder_ / "leases" / process, lock);
    }
    // In this order: a process that is dead by now has written its last row.
    if (!found->second || known(name)) return;
    remove(name);
    freed += size;
  });
  return freed;
}

void BlobStore::sweep_scratch() {
  fs::path leases = folder_ / "leases", tmp = folder_ / "tmp";
  for (auto& process : entries(tmp)) {
    FileDescriptor lock;
    std::error_code ignored;
    if (is_process(process) && lock_if_dead(leases / process, lock))
      fs::remove_all(tmp / process, ignored);
  }
  for (auto& name : entries(leases)) {
    FileDescriptor lock;
    if (lock_if_dead(leases / name, lock)) unlink((leases / name).c_str());
  }
}

}  // namespace pretrained::server
