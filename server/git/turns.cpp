#include "server/git/turns.h"

#include <algorithm>
#include <map>
#include <thread>

namespace pretrained::server {
namespace {

size_t count() { return std::max(16u, 4 * std::thread::hardware_concurrency()); }

}  // namespace

Turns& Turns::of_process() {
  static Turns turns(count());
  return turns;
}

std::shared_ptr<Turns> Turns::of_client(const std::string& address) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Turns>> known;
  std::lock_guard lock(mutex);
  std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<Turns>& entry = known[address];
  auto turns = entry.lock();
  if (!turns) entry = turns = std::make_shared<Turns>(count() / 2);
  return turns;
}

}  // namespace pretrained::server
