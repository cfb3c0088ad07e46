#pragma once
// The body of a commit over HTTP: one JSON object a line, {"key": …, "value": {…}}, the header
// first. Read line by line, and contents of files apart from their lines, so that little of it is
// ever in memory.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "pretrained/base/json.h"
#include "server/api/commit_contents.h"

namespace pretrained::server {

struct CommitHeader {
  std::string summary, description;
  std::optional<std::string> parent;
};

struct CommitOperation {
  enum class Kind { file, lfs_file, delete_file, delete_folder } kind = Kind::file;
  std::string path;
  CommitContent content;         // file
  std::string oid;               // lfs_file: 64 lower-case hex digits
  std::optional<uint64_t> size;  // lfs_file: absent for copies
};

struct CommitLimits {
  uint64_t body_bytes = uint64_t{3} << 30;
  ContentLimits contents;
  uint64_t content_bytes = uint64_t{2} << 30;  // of all files of the commit, decoded
  int64_t operations = 25'000;
};

// Throws HttpError: 400 with the number of the line for anything malformed, 413 beyond a limit.
class CommitReader {
 public:
  // `read` gives up to so many bytes, 0 at the end; `stage`: see CommitContents.
  CommitReader(std::function<size_t(char*, size_t)> read, std::function<StagedBlob()> stage,
               CommitLimits limits = {});
  CommitHeader header();  // the first line; call it once, first
  std::optional<CommitOperation> next();
  // Contents of operations may be pieces of it.
  std::optional<StagedBlob> take_file() { return contents_.take_file(); }

 private:
  struct Record {
    std::string key;
    Json value;
  };
  bool more();
  std::optional<std::string> line();
  void read_content();
  void read_escape();
  std::optional<Record> record();
  CommitOperation operation(Record& record);
  [[noreturn]] void fail(int status, const std::string& what) const;
  const std::string& text(const Json& value, const char* name) const;

  std::function<size_t(char*, size_t)> read_;
  CommitLimits limits_;
  std::string buffer_;
  size_t start_ = 0;  // of what is left of buffer_
  CommitContents contents_;
  std::optional<CommitContent> content_;  // of this line
  uint64_t bytes_ = 0, content_bytes_ = 0;
  int64_t lines_ = 0, operations_ = 0;
};

bool is_hex(std::string_view text, size_t digits);  // lower case

}  // namespace pretrained::server
