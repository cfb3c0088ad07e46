#pragma once
// Files: whole reads with a limit, names kept inside a folder, writes that are there whole or not
// at all, and locks between processes. Every error names the path. All functions may be called from
// any thread.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained {

// The whole file. Throws NotFoundError, IoError, or FormatError when it is longer than `limit`
// bytes or no regular file.
PRETRAINED_API std::string read_file(const std::filesystem::path& path, uint64_t limit = 16 << 20);

// A file descriptor that closes itself.
class PRETRAINED_API FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();
  int get() const { return fd_; }
  int release();

 private:
  int fd_ = -1;
};

// Opens `relative`, which a file of `folder` named, for reading. Nothing outside `folder` is ever
// opened: absolute names, "..", backslashes, NUL and symbolic links that lead out are a
// FormatError; a missing file is a NotFoundError; only regular files are opened. (openat2 with
// RESOLVE_BENEATH.) One kind of link may leave it: that of a snapshot in the hub clients' cache to
// its blob (../../blobs/<hash>, and from there ../../blobs/<hh>/<hash>).
PRETRAINED_API FileDescriptor open_inside(const std::filesystem::path& folder,
                                          const std::string& relative);
PRETRAINED_API std::string read_inside(const std::filesystem::path& folder,
                                       const std::string& relative, uint64_t limit = 16 << 20);
// The same for an open folder, with the flags of open(2) and without a look at what is opened;
// `name` is the folder's, for messages.
PRETRAINED_API FileDescriptor open_beneath(const FileDescriptor& folder,
                                           const std::filesystem::path& name,
                                           const std::string& relative, int flags);
// Only the rules for the name, for files that are written.
PRETRAINED_API void check_relative(const std::filesystem::path& folder,
                                   const std::string& relative);
// Reads an open file to its end; `name` is for messages.
PRETRAINED_API std::string read_all(const FileDescriptor& file, const std::string& name,
                                    uint64_t limit);

// Throws NotFoundError where `error` says that there is no such file, else IoError.
[[noreturn]] PRETRAINED_API void throw_errno(const std::string& what, int error);

// Digits for the name of a temporary file that no other process makes: neither one on another
// machine or in another container that shares the disk, nor one that was killed.
PRETRAINED_API std::string unique_number();

// A new private file beside its target: temp name, write, fsync, rename. Dropped without commit()
// it leaves nothing.
class PRETRAINED_API AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target, unsigned mode = 0666);  // less the umask
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // fsync, then rename over the target, then fsync of the folder. The target is old or new at any
  // moment. Several files that change together: folder_update.h.
  void commit();
  const std::filesystem::path& target() const { return target_; }

 private:
  std::filesystem::path target_, temporary_;
  FileDescriptor file_;
};

PRETRAINED_API void write_file_atomically(const std::filesystem::path& path, std::string_view text,
                                          unsigned mode = 0666);

// A regular file, no symbolic link, that belongs to this user and that nobody else can write.
PRETRAINED_API bool is_private_file(const std::filesystem::path& path);
// Its bytes; nothing where it is not such a file, not there, or longer than `limit`.
PRETRAINED_API std::optional<std::string> read_private_file(const std::filesystem::path& path,
                                                            uint64_t limit);

// Waits for and holds an exclusive lock on `path` (created 0600), until destruction. Released by
// the kernel when the process dies.
class PRETRAINED_API FileLock {
 public:
  explicit FileLock(const std::filesystem::path& path);

 private:
  FileDescriptor file_;
};

}  // namespace pretrained
