#include "pretrained/hub/progress.h"

#include <algorithm>

namespace pretrained::hub {

using Clock = std::chrono::steady_clock;

void Progress::tell(TransferEvent::Kind kind, const std::string& file, uint64_t done,
                    uint64_t total, const std::string& text) {
  if (!on_transfer_) return;
  state_.kind = kind;
  state_.file = file;
  state_.done = done;
  state_.total = total;
  state_.text = text;
  on_transfer_(state_);
}

void Progress::plan(uint64_t files, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  state_.files_total = files;
  state_.all_total = bytes;
  tell(TransferEvent::Kind::planned, "", 0, 0, "");
}

void Progress::notice(const std::string& text) {
  std::lock_guard lock(mutex_);
  tell(TransferEvent::Kind::notice, "", 0, 0, text);
}

void Progress::add(const std::string& file, uint64_t bytes, uint64_t done, uint64_t total) {
  std::lock_guard lock(mutex_);
  if (error_) throw Stopped();
  state_.all_done += bytes;
  auto now = Clock::now();
  if (now - told_ < std::chrono::milliseconds(50)) return;
  told_ = now;
  tell(TransferEvent::Kind::progress, file, done, total, "");
}

void Progress::received(uint64_t wire_bytes) {
  std::lock_guard lock(mutex_);
  state_.wire_bytes += wire_bytes;
}

void Progress::take_back(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  state_.all_done -= std::min(bytes, state_.all_done);
}

void Progress::finished(const std::string& file, uint64_t size, const std::string& how) {
  std::lock_guard lock(mutex_);
  ++state_.files_done;
  tell(TransferEvent::Kind::finished, file, size, size, how);
}

void Progress::check() {
  std::lock_guard lock(mutex_);
  if (error_) throw Stopped();
}

void Progress::fail(std::exception_ptr error) {
  std::lock_guard lock(mutex_);
  if (!error_) error_ = error;
}

void Progress::rethrow() {
  std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

uint64_t Progress::wire_bytes() {
  std::lock_guard lock(mutex_);
  return state_.wire_bytes;
}

}  // namespace pretrained::hub
