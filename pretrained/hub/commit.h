#pragma once
// For this room only: one commit, streamed from disk. An answer that gets lost on the way is looked
// for in the history, so that nothing is committed twice and nothing of ours is called a conflict.

#include <functional>
#include <string>
#include <vector>

#include "pretrained/hub/client.h"
#include "pretrained/hub/local_files.h"
#include "pretrained/hub/upload_progress.h"

namespace pretrained::hub {

struct CommitFile {
  LocalFile local;
  bool is_large = false;  // stored already; the commit names its SHA-256
  std::string sha256;
};

struct CommitContent {
  std::string summary, description;
  std::string parent;  // "" on top of nothing
  std::vector<CommitFile> files;
  std::vector<std::string> deleted;
};

struct CommitAnswer {
  std::string oid, url;
};

// {"header"}, {"file"}, {"lfsFile"}, {"deletedFile"}, one line each; small files in base64. One
// file at a time is in memory.
class PRETRAINED_API CommitBody {
 public:
  explicit CommitBody(const CommitContent& content);
  uint64_t size() const { return size_; }
  // As HttpRequest::read_body.
  size_t read(uint64_t offset, char* buffer, size_t size);
  std::function<void(const LocalFile&)> on_file;  // its last byte was read

 private:
  struct Part {
    uint64_t begin = 0, size = 0;
    std::string text;
    const LocalFile* file = nullptr;  // instead of text
  };
  void add_text(std::string text);
  void add_file(const LocalFile& file);
  std::string_view bytes_of(const Part& part);

  std::vector<Part> parts_;
  uint64_t size_ = 0;
  const LocalFile* loaded_ = nullptr;
  std::string encoded_;
};

// Conflict where somebody else has committed since `parent`.
CommitAnswer send_commit(const HubClient& client, const Repo& repo, const std::string& revision,
                         const CommitContent& content, UploadProgress& progress);

}  // namespace pretrained::hub
