#pragma once
// The body of a commit over HTTP: one JSON object a line, {"key": …, "value": {…}}, the header
// first. Read line by line, so that memory is bounded by one line and by the files kept so far.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "pretrained/base/json.h"

namespace pretrained::server {

struct CommitHeader {
  std::string summary, description;
  std::optional<std::string> parent;
};

struct CommitOperation {
  enum class Kind { file, lfs_file, delete_file, delete_folder } kind = Kind::file;
  std::string path;
  std::string content;           // file: decoded
  std::string oid;               // lfs_file: 64 lower-case hex digits
  std::optional<uint64_t> size;  // lfs_file: absent for copies
};

struct CommitLimits {
  uint64_t body_bytes = uint64_t{1} << 30;
  uint64_t file_bytes = 10 << 20;      // of one file; larger ones are LFS
  uint64_t content_bytes = 256 << 20;  // of all files of the commit, decoded
  int64_t operations = 25'000;
};

// Throws HttpError: 400 with the number of the line for anything malformed, 413 beyond a limit.
class CommitReader {
 public:
  // `read` gives up to so many bytes, 0 at the end.
  CommitReader(std::function<size_t(char*, size_t)> read, CommitLimits limits = {});
  CommitHeader header();  // the first line; call it once, first
  std::optional<CommitOperation> next();

 private:
  struct Record {
    std::string key;
    Json value;
  };
  std::optional<std::string> line();
  std::optional<Record> record();
  CommitOperation operation(Record& record);
  [[noreturn]] void fail(int status, const std::string& what) const;
  const std::string& text(const Json& value, const char* name) const;

  std::function<size_t(char*, size_t)> read_;
  CommitLimits limits_;
  std::string buffer_;
  size_t start_ = 0;  // of what is left of buffer_
  bool ended_ = false;
  uint64_t bytes_ = 0, content_ = 0;
  int64_t lines_ = 0, operations_ = 0;
};

// RFC 4648 with padding and nothing else: no spaces, no missing "=", no bits beyond the end.
std::optional<std::string> decode_strict_base64(std::string_view text);
bool is_hex(std::string_view text, size_t digits);  // lower case

}  // namespace pretrained::server
