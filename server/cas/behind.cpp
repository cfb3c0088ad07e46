#include "server/cas/behind.h"

#include <utility>

namespace pretrained::server {
namespace {

constexpr size_t kBuffers = 6;  // made as they are needed

}  // namespace

Behind::Behind(std::function<void(std::string_view)> work)
    : work_(std::move(work)), thread_([this] { run(); }) {}

Behind::~Behind() { stop(true); }

std::string Behind::take() {
  std::unique_lock lock(mutex_);
  if (made_ < kBuffers && free_.empty()) {
    ++made_;
    return std::string(kBuffer, '\0');
  }
  changed_.wait(lock, [&] { return !free_.empty() || error_; });
  if (error_) std::rethrow_exception(error_);
  std::string buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void Behind::give(std::string buffer, size_t size) {
  std::lock_guard lock(mutex_);
  full_.emplace_back(std::move(buffer), size);
  changed_.notify_all();
}

void Behind::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (filling_.empty()) filling_ = take();
    size_t size = bytes.copy(filling_.data() + filled_, filling_.size() - filled_);
    bytes.remove_prefix(size);
    filled_ += size;
    if (filled_ == filling_.size()) give(std::exchange(filling_, {}), std::exchange(filled_, 0));
  }
}

void Behind::finish() {
  if (filled_ > 0) give(std::exchange(filling_, {}), std::exchange(filled_, 0));
  stop(false);
  if (error_) std::rethrow_exception(error_);
}

void Behind::stop(bool at_once) {
  {
    std::lock_guard lock(mutex_);
    done_ = true;
    if (at_once) full_.clear();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Behind::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return !full_.empty() || done_; });
    if (full_.empty()) return;
    auto [buffer, size] = std::move(full_.front());
    full_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      work_({buffer.data(), size});
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    free_.push_back(std::move(buffer));
    error_ = error;
    changed_.notify_all();
    if (error) return;
  }
}

}  // namespace pretrained::server
