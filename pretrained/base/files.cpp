#include "pretrained/base/files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "pretrained/base/error.h"
#include "pretrained/base/text.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

uint64_t regular_size(int fd, const std::string& name) {
  struct stat status;
  if (fstat(fd, &status) != 0) throw_errno(name, errno);
  if (!S_ISREG(status.st_mode)) throw FormatError(name + ": not a regular file");
  return uint64_t(status.st_size);
}

bool is_private(const struct stat& status) {
  return S_ISREG(status.st_mode) && status.st_uid == geteuid() && (status.st_mode & 022) == 0;
}

void sync_folder(const fs::path& folder) {
  FileDescriptor fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) fsync(fd.get());
}

}  // namespace

void throw_errno(const std::string& what, int error) {
  std::string message = what + ": " + std::strerror(error);
  if (error == ENOENT || error == ENOTDIR) throw NotFoundError(message);
  throw IoError(message);
}

void check_relative(const fs::path& folder, const std::string& relative) {
  bool bad = relative.empty() || relative[0] == '/' || relative.find('\\') != relative.npos ||
             relative.find('\0') != relative.npos;
  for (auto& part : fs::path(relative)) bad = bad || part == "..";
  if (bad)
    throw FormatError(folder.string() + ": the file relative '" + printable(relative) +
                      "' leads out of the folder");
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

int FileDescriptor::release() { return std::exchange(fd_, -1); }

std::string read_all(const FileDescriptor& file, const std::string& name, uint64_t limit) {
  uint64_t size = regular_size(file.get(), name);
  auto too_long = [&] {
    return FormatError(name + ": longer than " + std::to_string(limit) + " bytes");
  };
  if (size > limit) throw too_long();
  std::string text(size, '\0');
  size_t filled = 0;
  for (;;) {
    if (filled == text.size()) text.resize(text.size() + 4096);  // it may have grown since
    ssize_t got = read(file.get(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(name, errno);
    if (got == 0) break;
    filled += size_t(got);
    if (filled > limit) throw too_long();
  }
  text.resize(filled);
  return text;
}

std::string read_file(const fs::path& path, uint64_t limit) {
  // O_NONBLOCK: a FIFO in place of the file must not hang us; it is refused a line later.
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) throw_errno(path.string(), errno);
  return read_all(file, path.string(), limit);
}

FileDescriptor open_beneath(const FileDescriptor& folder, const fs::path& name,
                            const std::string& relative, int flags) {
  check_relative(name, relative);
  open_how how{};
  how.flags = uint64_t(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  FileDescriptor file(int(syscall(SYS_openat2, folder.get(), relative.c_str(), &how, sizeof how)));
  if (file.get() >= 0) return file;
  if (errno == EXDEV || errno == ELOOP)
    throw FormatError((name / relative).string() +
                      ": a symbolic link that leads out of the folder");
  throw_errno((name / relative).string(), errno);
}

namespace {

int open_strictly(int folder, const std::string& relative, int flags) {
  open_how how{};
  how.flags = uint64_t(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  return int(syscall(SYS_openat2, folder, relative.c_str(), &how, sizeof how));
}

// The text of the symbolic link at `relative`, whose folders are no links; "" for anything else.
std::string link_text(int folder, const std::string& relative) {
  FileDescriptor link(open_strictly(folder, relative, O_PATH | O_NOFOLLOW));
  char text[512];
  ssize_t size = link.get() < 0 ? -1 : readlinkat(link.get(), "", text, sizeof text);
  return size < 0 ? "" : std::string(text, size_t(size));
}

// The cache of the hub's clients keeps the files of a snapshot as links to the blobs beside it,
//   <repo>/snapshots/<commit>/<path> → ../../[../…]blobs/<hash>, in <repo>
//   <repo>/blobs/<hash>              → ../../blobs/<hh>/<hash>, shared by all, or a file
// Only links of exactly this form are followed, and nothing in them is left to choose.
FileDescriptor open_snapshot_link(const fs::path& folder, const std::string& relative) {
  fs::path inside = relative, repo = fs::absolute(folder).lexically_normal();
  if (!repo.has_filename()) repo = repo.parent_path();
  while (repo.has_relative_path() && repo.parent_path().filename() != "snapshots") {
    inside = repo.filename() / inside;
    repo = repo.parent_path();
  }
  if (!is_hex(repo.filename().string(), 40)) return {};
  std::string path = (fs::path("snapshots") / repo.filename() / inside).string(), up;
  for (char c : path) up += c == '/' ? "../" : "";
  repo = repo.parent_path().parent_path();
  FileDescriptor root(open(repo.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::string text = link_text(root.get(), path);
  if (!text.starts_with(up + "blobs/")) return {};
  std::string blob = text.substr(up.size());
  if (!is_hex(blob.substr(6), 40) && !is_hex(blob.substr(6), 64)) return {};
  constexpr int kFlags = O_RDONLY | O_NONBLOCK;
  FileDescriptor file(open_strictly(root.get(), blob, kFlags));
  if (file.get() >= 0) return file;
  text = link_text(root.get(), blob);
  if (!text.starts_with("../../blobs/") || text.size() < 15 || text[14] != '/' ||
      !is_hex(text.substr(12, 2), 2) || !is_hex(text.substr(15), 64))
    return {};
  FileDescriptor all(open(repo.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return FileDescriptor(open_strictly(all.get(), text.substr(6), kFlags));
}

}  // namespace

FileDescriptor open_inside(const fs::path& folder, const std::string& relative) {
  check_relative(folder, relative);
  FileDescriptor root(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0) throw_errno(folder.string(), errno);
  FileDescriptor file = open_snapshot_link(folder, relative);
  if (file.get() < 0) file = open_beneath(root, folder, relative, O_RDONLY | O_NONBLOCK);
  regular_size(file.get(), (folder / relative).string());
  return file;
}

std::string read_inside(const fs::path& folder, const std::string& relative, uint64_t limit) {
  FileDescriptor file = open_inside(folder, relative);
  return read_all(file, (folder / relative).string(), limit);
}

std::string unique_number() {
  uint64_t number = 0;
  while (getrandom(&number, sizeof number, 0) != ssize_t(sizeof number))
    if (errno != EINTR) throw_errno("getrandom", errno);
  return std::to_string(number);
}

AtomicFile::AtomicFile(fs::path target, unsigned mode) : target_(std::move(target)) {
  std::string suffix = ".tmp-" + unique_number();
  std::string name = target_.filename().string().substr(0, 200);  // 255 bytes with all of it
  temporary_ = target_.parent_path() / ("." + name + suffix);
  file_ = FileDescriptor(open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (file_.get() < 0) {
    int error = errno;
    temporary_.clear();
    throw_errno(target_.string(), error);
  }
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    ssize_t put = ::write(file_.get(), bytes, size);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw_errno(target_.string(), errno);
    bytes += put;
    size -= size_t(put);
  }
}

void AtomicFile::commit() {
  if (fsync(file_.get()) != 0) throw_errno(target_.string(), errno);
  if (rename(temporary_.c_str(), target_.c_str()) != 0) throw_errno(target_.string(), errno);
  temporary_.clear();
  sync_folder(target_.has_parent_path() ? target_.parent_path() : ".");
}

bool is_private_file(const fs::path& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && is_private(status);
}

std::optional<std::string> read_private_file(const fs::path& path, uint64_t limit) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  struct stat status;
  if (file.get() < 0 || fstat(file.get(), &status) != 0 || !is_private(status) ||
      uint64_t(status.st_size) > limit)
    return std::nullopt;
  return read_all(file, path.string(), limit);
}

void write_file_atomically(const fs::path& path, std::string_view text, unsigned mode) {
  AtomicFile file(path, mode);
  file.write(text);
  file.commit();
}

FileLock::FileLock(const fs::path& path)
    : file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) {
  if (file_.get() < 0) throw_errno(path.string(), errno);
  while (flock(file_.get(), LOCK_EX) != 0)
    if (errno != EINTR) throw_errno(path.string(), errno);
}

}  // namespace pretrained
