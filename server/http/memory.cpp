#include "server/http/memory.h"

#include "server/http/http.h"

namespace pretrained::server {

MemoryBudget& MemoryBudget::of_process() {
  static MemoryBudget budget(uint64_t{768} << 20);
  return budget;
}

MemoryShare::~MemoryShare() {
  if (taken_ == 0) return;
  std::lock_guard lock(budget_.mutex_);
  budget_.taken_ -= taken_;
  if (budget_.favoured_ == this) budget_.favoured_ = nullptr;
  budget_.freed_.notify_all();
}

void MemoryShare::take(uint64_t bytes) {
  asked_ += bytes;
  if (asked_ <= kFree) return;
  uint64_t more = asked_ - kFree - taken_;
  if (taken_ + more > budget_.bytes_)
    throw HttpError(413, "", "the request needs more memory than this hub gives to all of them");
  std::unique_lock lock(budget_.mutex_);
  bool got = budget_.freed_.wait_for(lock, budget_.patience_, [&] {
    return budget_.taken_ + more <= budget_.bytes_ || !budget_.favoured_ ||
           budget_.favoured_ == this;
  });
  if (!got) throw busy("too many large requests at once", 5);
  if (budget_.taken_ + more > budget_.bytes_) budget_.favoured_ = this;
  budget_.taken_ += more;
  taken_ += more;
}

}  // namespace pretrained::server
