#pragma once
// The blob store: immutable files under the data folder (an S3-compatible store can stand here
// later). A blob's name is given once and never reused: publish() adds a random end to what the
// caller proposes, and the database row that refers to the blob holds the full name. So a row can
// be deleted first and its blob removed later without ever hitting a successor.
//
// A blob that no row names is an orphan. One that was made by a process that still lives may be
// about to get its row, so every process holds a lease (a locked file, released by the kernel) and
// its id is part of the names it makes; sweep() only removes orphans of the dead.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace pretrained::server {

// A piece of a file that stays open, and as it is, for as long as somebody has the piece.
struct FilePiece {
  int fd = -1;
  uint64_t offset = 0, size = 0;
  std::string read() const;  // IoError where the file is shorter
};

// A blob being written: a private file that disappears unless it is published.
class StagedBlob {
 public:
  // `reserve`: see BlobStore; looked at again every 32 MiB.
  explicit StagedBlob(std::filesystem::path path, uint64_t reserve = 0);
  StagedBlob(StagedBlob&&) noexcept;
  StagedBlob& operator=(StagedBlob&&) noexcept;
  ~StagedBlob();
  void write(std::string_view bytes);  // IoError names the file; disk full is DiskFull
  // From now on write() goes past the page cache, where the file system can: what it is given must
  // then lie at a multiple of kBlock and be as many bytes, and so must what was written before.
  static constexpr size_t kBlock = 4096;
  void bypass_cache(bool bypass);
  int fd() const { return file_.get(); }
  uint64_t size() const { return size_; }  // what write() wrote
  const std::filesystem::path& path() const { return path_; }

 private:
  friend class BlobStore;
  std::filesystem::path path_;
  FileDescriptor file_;
  uint64_t size_ = 0, reserve_ = 0;
  bool bypassing_ = false;
};

// Less space than the reserve: writes get 507 before the disk is full.
class DiskFull : public IoError {
 public:
  using IoError::IoError;
};

// All functions may be called from any thread; several processes may share one folder.
class BlobStore {
 public:
  // Makes `folder`/blobs, `folder`/tmp and `folder`/leases, private to the user. `reserve`: bytes
  // that must stay free on the disk.
  BlobStore(const std::filesystem::path& folder, uint64_t reserve);
  ~BlobStore();

  void check_space();  // throws DiskFull below the reserve: for rows that strangers may add
  // Throws DiskFull when `expected` more bytes would go below the reserve.
  StagedBlob stage(uint64_t expected = 0);
  // An empty private folder under tmp, removed when the process no longer lives (or by the caller).
  std::filesystem::path scratch_folder();
  // rename, fsync of the file and of the folder: durable when it returns. "xorbs/<hash>" becomes
  // "xorbs/ab/<hash>.<process>.<n>". A proposal is a kind of small letters, "/", and a name of at
  // most 150 letters, digits, ".", "_" and "-" that begins with two lower-case hex digits;
  // FormatError otherwise, and wherever a name is not one that publish() gave.
  std::string publish(StagedBlob&& blob, const std::string& proposed);
  // NotFoundError. A blob that is open stays readable though it is removed.
  FileDescriptor open(const std::string& name) const;
  uint64_t size(const std::string& name) const;
  void remove(const std::string& name);  // a missing one is fine
  void each(const std::string& kind,
            const std::function<void(const std::string& name, uint64_t size)>& visit) const;
  // Removes blobs of `kind` for which `known` says no and whose process is dead, and dead
  // processes' scratch. Returns the bytes freed. `known` is asked after the process was found dead,
  // and must look at the database as it is then.
  uint64_t sweep(const std::string& kind, const std::function<bool(const std::string&)>& known);
  // Where the blob lies as a file: for hard links from git caches. (A remote store would fetch it.)
  std::filesystem::path local_path(const std::string& name) const;
  const std::filesystem::path& folder() const { return folder_; }

 private:
  void make_durable_folder(const std::string& name);
  void sweep_scratch();
  std::filesystem::path folder_;
  uint64_t reserve_;
  struct Lease;
  std::unique_ptr<Lease> lease_;
};

}  // namespace pretrained::server
