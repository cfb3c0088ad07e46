#pragma once
// The only room that knows Boost.Beast and sockets. Idle connections and request heads are read
// asynchronously on one I/O thread (thousands of idle clients cost a few kB each); a complete head
// goes to a worker thread, which runs the handler with blocking, deadline-guarded reads and writes.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/http/http.h"

namespace pretrained::server {

struct ListenerOptions {
  std::string address = "127.0.0.1";
  uint16_t port = 8080;                      // 0: any free one, see Listener::port()
  std::filesystem::path certificate, key;    // PEM; both empty: no TLS
  std::string external_url;                  // what clients are told; empty: from Host and TLS
  std::vector<std::string> trusted_proxies;  // addresses whose X-Forwarded-… are believed
  size_t workers = 64;                       // requests in progress; more wait, see `queue`
  size_t queue = 1024;                       // waiting requests; beyond: 503 with Retry-After
  size_t connections = 8192;
  uint64_t header_limit = 64 << 10;
  uint64_t body_limit = uint64_t{64} << 30;  // handlers set tighter ones where they buffer
  std::chrono::seconds idle_timeout{75}, header_timeout{15};
  // A body must move at least this much in every stretch of `stall_timeout`.
  std::chrono::seconds stall_timeout{30};
  uint64_t stall_bytes = 16 << 10;
};

// Never throws for HttpErrors: it makes the answer of an error itself.
using Handler = std::function<Response(Request&)>;
// Called once per finished exchange: the access log and the metrics.
struct Exchange {
  const Request& request;
  int status;
  uint64_t bytes_in, bytes_out;
  std::chrono::microseconds duration;
  bool complete;  // false: the client left before the end
};
using Observer = std::function<void(const Exchange&)>;

class Listener {
 public:
  // Binds; IoError names address and reason. Serving starts with run().
  Listener(ListenerOptions options, Handler handler, Observer observer = {});
  ~Listener();
  uint16_t port() const;
  // Serves until stop(); then no new connections and requests are taken, those in progress get
  // `grace` to finish and are cut off after it. Returns when all threads have ended.
  void run();
  void stop(std::chrono::seconds grace = std::chrono::seconds(20));  // from any thread
  struct Load {
    size_t connections, active, waiting;
  };
  Load load() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server
