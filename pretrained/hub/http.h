#pragma once
// HTTP/1.1 over libcurl: kept-alive connections, retries with back-off, redirects under our own
// rules. HTTP(S)_PROXY, ALL_PROXY and NO_PROXY are honoured; own certificate authorities come from
// SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE.
//
// The token goes to the endpoint's own origin (scheme, host, port) and nowhere else: not after a
// redirect, not in a URL, not into a message.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::hub {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "GET";
  std::string url;  // absolute; where the endpoint has https, https too, or it is an IntegrityError
  Headers headers;
  std::string body;
  // A body that is not in memory: fills the buffer, from byte `offset` on; `body_size` bytes in
  // all. Asked again from the start when a request is repeated.
  std::function<size_t(uint64_t offset, char* buffer, size_t size)> read_body;
  uint64_t body_size = 0;
  // Sees status, headers and address of a 2xx answer before its body; throws to refuse it.
  std::function<void(const struct HttpResponse&)> start;
  // Takes the bytes of a 2xx answer's body as they come, in pieces of at most 16 KiB; without it
  // they are HttpResponse::body. An attempt that breaks off in the middle is then not repeated
  // here: who writes knows where to go on.
  std::function<void(std::string_view)> write;
  uint64_t body_limit = 64 << 20;  // of HttpResponse::body; a longer one is an IntegrityError
  // Called between pieces of either body, and about once a second while none move; counts are those
  // of the attempt. Throws to stop.
  std::function<void(uint64_t sent, uint64_t received)> progress;
  bool send_token = true;  // to the endpoint's origin only
  std::string bearer;      // another token than the user's (Xet), for exactly this request
  // Five at most. Within the origin with everything; elsewhere only GET and HEAD, without token and
  // bearer; never from https to http. One that breaks these rules is an IntegrityError.
  bool follow_redirects = true;
  // Of connection errors, 408, 429, 500, 502, 503, 504: after 1 s, 2, 4, 8, 8; Retry-After wins.
  // Where nothing has ever answered and none can be reached, two are enough to know that.
  int retries = 5;
  // Must not happen twice: repeated only where the server cannot have acted on it, that is after
  // 429 and 503 and where no connection came about.
  bool once = false;
};

struct PRETRAINED_API HttpResponse {
  int status = 0;
  Headers headers;  // of the last answer, names in lower case
  std::string body;
  std::string url;                                  // after redirects
  std::string header(std::string_view name) const;  // lower case; "" where absent
};

struct HttpOptions {
  std::string endpoint;  // "" : default_endpoint()
  std::string token;     // "" : none
  std::string user_agent;
  std::chrono::milliseconds connect_timeout{10'000};
  // A connection that moves next to nothing (10 bytes a second) for so long is given up
  // (HF_HUB_DOWNLOAD_TIMEOUT).
  std::chrono::milliseconds stall_timeout{10'000};
  // How long a hub may think about a POST, PUT or DELETE that it has in full.
  std::chrono::milliseconds answer_timeout{600'000};
  std::chrono::milliseconds retry_base{1'000};  // the first wait
  // A hub that asks to wait longer is not waited for: the answer is returned as it is.
  std::chrono::milliseconds longest_wait{60'000};
  bool offline = false;  // every request is an OfflineError, before a socket is made
  // Gets one line when a request is about to be repeated; from any thread.
  std::function<void(const std::string&)> notice;
};

// Any number of threads may send at once; each call blocks.
class PRETRAINED_API HttpClient {
 public:
  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  // The answer whatever its status; NetworkError where there is none after the retries.
  HttpResponse send(const HttpRequest& request);
  const HttpOptions& options() const;
  // Whether `url` has the endpoint's scheme, host and port.
  bool is_own_origin(std::string_view url) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Throws the typed error for an answer that is no success. `what` is the thing asked for, for the
// message: "org/name@main: config.json".
[[noreturn]] PRETRAINED_API void throw_for_status(const HttpResponse& response,
                                                  const std::string& what);

// %XX for all but unreserved characters; `keep_slashes` for paths.
PRETRAINED_API std::string url_encode(std::string_view text, bool keep_slashes = false);

}  // namespace pretrained::hub
