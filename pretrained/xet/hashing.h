#pragma once
// The Xet hash of whole files: chunked, hashed and, if asked, SHA-256 computed in one pass, equal
// to hf_xet.hash_files and sha256sum.
//
// Threads share the work of one file: one reads and cuts, one computes the SHA-256, all hash
// chunks; more than three hardly help one file. Memory: about a megabyte per thread, plus 40 bytes
// per chunk where the chunks are asked for.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/xet/hash.h"

namespace pretrained::xet {

struct HashOptions {
  int threads = 1;      // this one included
  bool sha256 = false;  // fill FileHashes::sha256
  bool chunks = false;  // fill FileHashes::chunks
};

struct FileHashes {
  Hash hash;  // zeros for the empty file
  uint64_t size = 0;
  std::string sha256;             // 64 lower-case digits
  std::vector<ChunkSize> chunks;  // in the order of the file
};

// NotFoundError or IoError, naming the path. A file that changes meanwhile gives the hash of what
// was read.
PRETRAINED_API FileHashes hash_file(const std::filesystem::path& path,
                                    const HashOptions& options = {});

// Fills the buffer and returns how many bytes it wrote; fewer than `size` only at the end. Called
// from one thread at a time, not always the same; what it throws is thrown on.
using ByteReader = std::function<size_t(char* buffer, size_t size)>;
PRETRAINED_API FileHashes hash_stream(const ByteReader& read, const HashOptions& options = {});

// For bytes that arrive by themselves: an upload while it is written. On the caller's thread;
// belongs to one thread.
class PRETRAINED_API FileHasher {
 public:
  explicit FileHasher(const HashOptions& options = {});
  ~FileHasher();
  FileHasher(FileHasher&&) noexcept;
  void update(std::string_view bytes);
  // Chunks that are complete so far, where they were asked for.
  const std::vector<ChunkSize>& chunks() const;
  FileHashes finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::xet
