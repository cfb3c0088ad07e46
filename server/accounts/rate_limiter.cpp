#include <algorithm>
#include <array>
#include <chrono>
#include <mutex>
#include <unordered_map>

#include "server/accounts/accounts.h"

namespace pretrained::server {
namespace {

constexpr size_t kKeys = 65'536, kShared = 1'024;

int64_t steady_seconds() {
  using namespace std::chrono;
  return duration_cast<seconds>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

// Keys are kept as hashes with a secret salt: a fixed size each, and nobody can aim at another's.
struct RateLimiter::State {
  const int64_t requests, window;
  const std::string salt = random_hex(32);
  std::mutex mutex;
  int64_t current = -1;  // number of the window
  std::unordered_map<size_t, int64_t> taken;
  std::array<int64_t, kShared> shared{};

  State(int64_t requests, int64_t window)
      : requests(requests), window(std::max<int64_t>(window, 1)) {}

  int64_t& counter(size_t key) {
    auto found = taken.find(key);
    if (found != taken.end()) return found->second;
    return taken.size() < kKeys ? taken[key] : shared[key % kShared];
  }
};

RateLimiter::RateLimiter(int64_t requests, int64_t window_seconds)
    : state_(std::make_unique<State>(requests, window_seconds)) {}
RateLimiter::~RateLimiter() = default;

RateLimiter::Verdict RateLimiter::take(const std::string& key) {
  State& state = *state_;
  int64_t now = steady_seconds();
  int64_t reset = state.window - now % state.window;
  if (state.requests <= 0) return {true, 0, reset};
  size_t hash = std::hash<std::string>()(state.salt + key);
  std::lock_guard lock(state.mutex);
  if (now / state.window != state.current) {
    state.current = now / state.window;
    state.taken.clear();
    state.shared.fill(0);
  }
  int64_t& taken = state.counter(hash);
  if (taken >= state.requests) return {false, 0, reset};
  taken++;
  return {true, state.requests - taken, reset};
}

int64_t RateLimiter::requests() const { return state_->requests; }
int64_t RateLimiter::window() const { return state_->window; }

}  // namespace pretrained::server
