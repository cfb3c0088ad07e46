#pragma once
// For this room only: one upload's numbers, told one call at a time.

#include <map>
#include <mutex>

#include "pretrained/hub/transfer.h"

namespace pretrained::hub {

class UploadProgress {
 public:
  explicit UploadProgress(const OnTransfer& on_transfer) : on_transfer_(on_transfer) {}

  void planned(uint64_t files, uint64_t bytes) {
    std::lock_guard lock(mutex_);
    sums_.files_total = files;
    sums_.all_total = bytes;
    tell(TransferEvent::Kind::planned, "", 0, 0, "");
  }
  // `done` of the file's bytes are through.
  void progress(const std::string& file, uint64_t done, uint64_t total) {
    std::lock_guard lock(mutex_);
    advance(file, done);
    tell(TransferEvent::Kind::progress, file, done, total, "");
  }
  void finished(const std::string& file, uint64_t total, const std::string& how) {
    std::lock_guard lock(mutex_);
    advance(file, total);
    done_.erase(file);
    ++sums_.files_done;
    tell(TransferEvent::Kind::finished, file, total, total, how);
  }
  void notice(const std::string& text) {
    std::lock_guard lock(mutex_);
    tell(TransferEvent::Kind::notice, "", 0, 0, text);
  }
  void sent(uint64_t bytes) {
    std::lock_guard lock(mutex_);
    sums_.wire_bytes += bytes;
  }
  uint64_t wire_bytes() const {
    std::lock_guard lock(mutex_);
    return sums_.wire_bytes;
  }

 private:
  // A file that is sent again starts again; the sum does not go back.
  void advance(const std::string& file, uint64_t done) {
    uint64_t& known = done_[file];
    if (done <= known) return;
    sums_.all_done += done - known;
    known = done;
  }
  void tell(TransferEvent::Kind kind, const std::string& file, uint64_t done, uint64_t total,
            const std::string& text) {
    if (!on_transfer_) return;
    TransferEvent event = sums_;
    event.kind = kind;
    event.file = file;
    event.done = done;
    event.total = total;
    event.text = text;
    on_transfer_(event);
  }

  const OnTransfer& on_transfer_;
  mutable std::mutex mutex_;
  TransferEvent sums_;
  std::map<std::string, uint64_t> done_;  // of files under way
};

}  // namespace pretrained::hub
