#pragma once
// For this room only: the files of a folder that is being uploaded. Their bytes are those of the
// moment when the folder was listed: a file that another program changes meanwhile is an error and
// not a mixture.

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "pretrained/base/files.h"

namespace pretrained::hub {

struct LocalFile {
  std::string path;            // in the repository
  std::filesystem::path file;  // no symbolic link any more
  uint64_t size = 0;
  uint64_t device = 0, inode = 0;
  int64_t modified_ns = 0;
};

// ArgumentError for names that no client can take: "..", ".git", control characters, no UTF-8.
PRETRAINED_API void check_repo_path(const std::string& path);
// "./a/b/" → "a/b"; "" for the root.
PRETRAINED_API std::string normal_repo_path(const std::string& path);

// A file under the name `path`. Links are followed: the user named it.
PRETRAINED_API LocalFile local_file(const std::filesystem::path& file, const std::string& path);

// Regular files below `folder` that pass the patterns, sorted, with paths relative to it. Links to
// files inside the folder are followed; others, and what is no file, are a FormatError. .git,
// .cache/huggingface and our own temporary files are passed over. Finishes an interrupted save.
PRETRAINED_API std::vector<LocalFile> list_folder(const std::filesystem::path& folder,
                                                  const std::vector<std::string>& allow_patterns,
                                                  const std::vector<std::string>& ignore_patterns);

// An open LocalFile. IoError where it is not the file that was listed, at any call. Any number of
// threads.
class PRETRAINED_API SourceFile {
 public:
  explicit SourceFile(const LocalFile& file);
  // Exactly `size` bytes.
  void read(uint64_t offset, char* buffer, size_t size) const;
  std::string read_whole() const;
  void check_unchanged() const;
  const LocalFile& local() const { return local_; }

 private:
  [[noreturn]] void changed() const;
  const LocalFile& local_;
  FileDescriptor file_;
};

// What the hub would call these bytes: as long as `etag` is (blob_hash.h). `on_block` is called now
// and then; it throws to stop.
PRETRAINED_API std::string hash_source(const SourceFile& file, const std::string& etag,
                                       const std::function<void()>& on_block = {});

}  // namespace pretrained::hub
