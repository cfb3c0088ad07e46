#pragma once
// One exchange, on a worker thread: reads the head, calls the handler, sends its answer, and says
// what becomes of the connection.

#include <atomic>
#include <chrono>
#include <string>

#include "server/http/head.h"
#include "server/http/listener.h"
#include "server/http/transport.h"

namespace pretrained::server {

// What every exchange of a listener has in common.
struct Service {
  const ListenerOptions& options;
  const Place place;
  const Handler& handler;
  const Observer& observer;
  std::atomic<bool> stopping = false;  // answers say that the connection ends
};

enum class After {
  keep,    // the next request may follow, or is in the buffer already
  close,   // nothing is left to say
  linger,  // the client may still be sending: let it read the answer before closing
  cut,     // broken, or what was sent must not look whole
};

// `buffer` starts with a whole head of `head_size` bytes, complete since `began`. Never throws.
After serve(Transport& transport, Buffer& buffer, size_t head_size, const Peer& peer,
            std::chrono::steady_clock::time_point began, const Service& service);

// The answer to what is no request: {"error": "…"}. The connection ends with it.
Response error_response(const HttpError& error);
std::string error_message(const HttpError& error, const std::string& request_id);
void observe(const Service& service, const Exchange& exchange);

}  // namespace pretrained::server
