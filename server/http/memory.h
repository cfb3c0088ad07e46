#pragma once
// What all requests together may hold in memory for bodies that are not streamed: JSON, shards, the
// files of a commit. Charged as the bytes come, so that many large ones at once wait for each other
// instead of exhausting the machine, and who only announces a large one holds nothing. One of those
// that wait goes on beyond the budget, or all would wait for each other: together they hold at most
// twice of it.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace pretrained::server {

class MemoryShare;

class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t bytes,
                        std::chrono::milliseconds patience = std::chrono::seconds(30))
      : bytes_(bytes), patience_(patience) {}
  static MemoryBudget& of_process();  // 768 MiB

 private:
  friend class MemoryShare;
  const uint64_t bytes_;
  const std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable freed_;
  uint64_t taken_ = 0;
  const MemoryShare* favoured_ = nullptr;  // the one that may go beyond
};

// What one request has taken; given back at its end.
class MemoryShare {
 public:
  static constexpr uint64_t kFree = 256 << 10;  // not counted: small requests never wait

  explicit MemoryShare(MemoryBudget& budget = MemoryBudget::of_process()) : budget_(budget) {}
  ~MemoryShare();
  MemoryShare(const MemoryShare&) = delete;
  // Waits while others have too much; HttpError 503 with Retry-After when that takes too long, 413
  // where the request alone is more than everything.
  void take(uint64_t bytes);

 private:
  MemoryBudget& budget_;
  uint64_t asked_ = 0, taken_ = 0;
};

}  // namespace pretrained::server
