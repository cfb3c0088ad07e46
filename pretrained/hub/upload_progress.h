#pragma once
// For this room only: an upload's files, each of which may pass several times: hashed, sent, sent
// again.

#include <map>
#include <mutex>

#include "pretrained/hub/progress.h"

namespace pretrained::hub {

class UploadProgress {
 public:
  explicit UploadProgress(const OnTransfer& on_transfer) : progress_(on_transfer) {}

  void planned(uint64_t files, uint64_t bytes) { progress_.plan(files, bytes); }
  void notice(const std::string& text) { progress_.notice(text); }
  // `done` of the file's bytes are through; the sum does not go back.
  void progress(const std::string& file, uint64_t done, uint64_t total) {
    std::lock_guard lock(mutex_);
    uint64_t& known = done_[file];
    advance(file, done > known ? done - known : 0, done, total);
  }
  // So many more of them.
  void more(const std::string& file, uint64_t bytes, uint64_t total) {
    std::lock_guard lock(mutex_);
    advance(file, bytes, done_[file] + bytes, total);
  }
  void finished(const std::string& file, uint64_t total, const std::string& how) {
    progress(file, total, total);
    progress_.finished(file, total, how);
    std::lock_guard lock(mutex_);
    done_.erase(file);
  }
  // Bytes of a request's body crossed the network.
  void sent(uint64_t bytes) {
    std::lock_guard lock(mutex_);
    progress_.received(bytes);
    progress_.add(last_.file, 0, last_.done, last_.total);
  }
  uint64_t wire_bytes() { return progress_.wire_bytes(); }

 private:
  void advance(const std::string& file, uint64_t bytes, uint64_t done, uint64_t total) {
    done_[file] += bytes;
    last_ = {file, done, total};
    progress_.add(file, bytes, done, total);
  }
  struct Last {
    std::string file;
    uint64_t done = 0, total = 0;
  };
  Progress progress_;
  std::mutex mutex_;
  std::map<std::string, uint64_t> done_;  // of files under way
  Last last_;
};

}  // namespace pretrained::hub
