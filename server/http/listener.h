#pragma once
// The only room that knows Boost and sockets. Idle connections and request heads are read
// asynchronously on one I/O thread (thousands of idle clients cost a few kB each); a complete head
// goes to a worker thread, which runs the handler with blocking, deadline-guarded reads and writes.
// What is no request, or comes too late, too long or too many (400, 408, 413, 431, 503, …) is
// answered here with {"error": "…"}.

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
  uint16_t port = 8080;                    // 0: any free one, see Listener::port()
  std::filesystem::path certificate, key;  // PEM; both empty: no TLS
  std::string external_url;                // what clients are told; empty: from Host and TLS
  // Addresses and networks ("10.0.0.0/8") whose X-Forwarded-… and X-Request-Id are believed.
  std::vector<std::string> trusted_proxies;
  // Names that Host may have besides addresses and "localhost", without port; none: any. A page of
  // another site may point a name of its own at this machine (DNS rebinding); others get 421.
  std::optional<std::vector<std::string>> hosts;
  size_t workers = 64;  // requests in progress; more wait, see `queue`
  size_t queue = 1024;  // waiting requests; beyond: 503 with Retry-After
  // Requests in progress of one address (of IPv6: one /64), so that one slow client cannot hold all
  // workers; its others wait, at most half of the queue. 0: half of the workers, and no limit for
  // this machine and trusted proxies.
  size_t per_address = 0;
  size_t connections = 8192;
  uint64_t header_limit = 64 << 10;
  uint64_t body_limit = uint64_t{64} << 30;  // handlers set tighter ones where they buffer
  std::chrono::milliseconds idle_timeout{75'000}, header_timeout{15'000};
  // A body must move at least this much in every stretch of `stall_timeout` that is spent waiting
  // for the client.
  std::chrono::milliseconds stall_timeout{30'000};
  uint64_t stall_bytes = 16 << 10;
};

// Makes the answer of an error itself; what it throws nevertheless is answered with the plain
// {"error": "…"} of its status, or 500. ConnectionLost ends the connection.
using Handler = std::function<Response(Request&)>;
// Called once per finished exchange, on the thread it ran on: the access log and the metrics.
struct Exchange {
  const Request& request;              // what could be read of it
  int status;                          // 0: none was sent
  uint64_t bytes_in, bytes_out;        // head and body
  std::chrono::microseconds duration;  // since the head was complete, waiting for a worker included
  bool complete;  // false: the client left before the end, or producing the body failed
};
using Observer = std::function<void(const Exchange&)>;

class Listener {
 public:
  // Binds; IoError names address and reason, or the certificate. Serving starts with run(). SIGPIPE
  // is ignored in the whole process from here on.
  Listener(ListenerOptions options, Handler handler, Observer observer = {});
  ~Listener();
  uint16_t port() const;
  // Serves until stop(); then no new connections and requests are taken, those in progress get
  // `grace` to finish and are cut off after it. Returns when all threads have ended; a handler that
  // waits for something else than its client is waited for.
  void run();
  void stop(std::chrono::seconds grace = std::chrono::seconds(20));  // from any thread
  // Reads certificate and key again, for new connections; IoError, and the old ones stay, where
  // they cannot be used. Only with TLS, from any thread.
  void reload_certificate();
  struct Load {
    size_t connections, active, waiting;
  };
  Load load() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server
