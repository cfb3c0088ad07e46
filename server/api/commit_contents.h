#pragma once
// The contents of a commit's files as they come: base64 in, bytes in memory while they are few and
// in one staged file beyond that, so that a commit of any size needs little memory.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "server/storage/blobs.h"

namespace pretrained::server {

struct CommitContent {
  std::string text;                // where it is small,
  std::optional<FilePiece> piece;  // and otherwise
  uint64_t size = 0;               // also where it is too large, and not kept
  bool is_base64 = true;           // canonical, or it is not kept
};

struct ContentLimits {
  uint64_t file = 10 << 20;                             // of one file; larger ones are LFS
  uint64_t small = 64 << 10, small_together = 8 << 20;  // what stays in memory
};

class CommitContents {
 public:
  // `stage`: called once, for the first that is not small.
  CommitContents(std::function<StagedBlob()> stage, const ContentLimits& limits);
  void write(std::string_view base64);
  CommitContent end();  // of what was written since the last end
  // What the pieces are pieces of; nothing where all were small.
  std::optional<StagedBlob> take_file() { return std::move(file_); }

 private:
  void decode(size_t digits);
  void keep(std::string_view bytes);

  std::function<StagedBlob()> stage_;
  ContentLimits limits_;
  uint64_t small_together_ = 0;
  std::optional<StagedBlob> file_;
  std::string encoded_;  // not decoded yet
  bool padded_ = false;  // nothing may follow
  CommitContent content_;
};

// RFC 4648 with padding and nothing else: no spaces, no missing "=", no bits beyond the end.
std::optional<std::string> decode_strict_base64(std::string_view text);

}  // namespace pretrained::server
