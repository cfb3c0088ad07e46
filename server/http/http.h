#pragma once
// One HTTP exchange as handlers see it. A handler takes a Request and returns a Response or throws
// HttpError; it never sees a socket, so the same handlers run under tests and fuzzers. Handlers run
// on worker threads and may block; each Request and Response belongs to one thread.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "server/http/memory.h"

#include "pretrained/base/files.h"

namespace pretrained::server {

bool equal_ignoring_case(std::string_view a, std::string_view b);  // ASCII

// Names compare without case; order is kept; a name may occur more than once. What a handler puts
// in is sent with control characters as spaces, so no value can add a header of its own.
class Headers {
 public:
  void add(std::string name, std::string value);
  void set(std::string name, std::string value);  // replaces every one of that name
  void remove(std::string_view name);
  // The first of that name, or "".
  std::string_view get(std::string_view name) const;
  bool has(std::string_view name) const;
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

 private:
  std::vector<std::pair<std::string, std::string>> entries_;
};

// The bytes of a request, read once, in order, straight from the client. A client that stops
// sending, sends less than was announced, breaks the chunked framing or sends more than is allowed
// is an HttpError (408, 400, 400, 413). The first read answers "Expect: 100-continue".
class Body {
 public:
  virtual ~Body() = default;
  // Up to `size` bytes; 0 at the end.
  virtual size_t read(char* data, size_t size) = 0;
  // What Content-Length said; nothing for chunked bodies.
  virtual std::optional<uint64_t> length() const = 0;
};

// A body in memory: requests without one, tests, fuzzers.
class StringBody : public Body {
 public:
  explicit StringBody(std::string bytes = {}) : bytes_(std::move(bytes)) {}
  size_t read(char* data, size_t size) override;
  std::optional<uint64_t> length() const override { return bytes_.size(); }

 private:
  std::string bytes_;
  size_t position_ = 0;
};

struct Request {
  std::string method;  // upper case
  std::string target;  // as sent: path and query, still encoded
  // Path segments, split at '/' before decoding, so that "refs%2Fpr%2F1" stays one segment.
  std::vector<std::string> segments;
  std::vector<std::pair<std::string, std::string>> query;  // decoded, in order
  Headers headers;
  std::shared_ptr<Body> body = std::make_shared<StringBody>();
  std::string remote_address;  // the client's; behind a trusted proxy, what the proxy says
  std::string base_url;        // "http://host:port", as the client reaches us, no trailing slash
  std::string request_id;
  std::shared_ptr<MemoryShare> memory = std::make_shared<MemoryShare>();  // charged by read_body

  // Splits and decodes `target`. Empty segments (doubled and trailing slashes) are dropped.
  // HttpError 400 where it does not start with "/", and for bad escapes, control characters, NUL,
  // and for "." and "..", also between encoded slashes.
  void set_target(std::string target);
  std::optional<std::string> parameter(std::string_view name) const;
  std::vector<std::string> parameters(std::string_view name) const;
  // "true", "True", "1" and the bare name are true.
  bool flag(std::string_view name) const;
  // The whole body; HttpError 413 beyond `limit`. A gzip Content-Encoding is undone, within the
  // limit; 400 where it is damaged or cut, 415 for other encodings.
  std::string read_body(uint64_t limit = 1 << 20);
};

// Where a streamed answer goes. A client that went away or stopped reading is ConnectionLost.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void write(std::string_view bytes) = 0;
  virtual void send_file(int fd, uint64_t offset, uint64_t length) = 0;
};

// A body of known length (no `length`: chunked), produced while it is sent; not for HEAD. What
// `produce` throws before its first byte is answered as if the handler had thrown it; later, and
// where it gives another length than it said, the connection is cut so that the client notices.
struct Stream {
  std::optional<uint64_t> length;
  std::function<void(Sink&)> produce;
};

// Content-Length, Transfer-Encoding, Connection, Date and X-Request-Id are set while sending. Only
// for a HEAD with an empty string as its body is a Content-Length of the handler's kept.
struct Response {
  int status = 200;
  Headers headers;
  std::variant<std::string, Stream> body;
};

// An answer that is an error. One place (api/app.cpp) makes status, JSON body and the X-Error-…
// headers of it.
struct HttpError : std::runtime_error {
  HttpError(int status, std::string code, const std::string& message, Headers headers = {})
      : std::runtime_error(message),
        status(status),
        code(std::move(code)),
        headers(std::move(headers)) {}
  int status;
  std::string code;  // X-Error-Code: "RepoNotFound", …; may be empty
  Headers headers;   // further ones: Retry-After, WWW-Authenticate, X-Repo-Commit
};

// 503 with the seconds after which to try again.
HttpError busy(const std::string& message, int seconds);

struct ConnectionLost : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One range of "Range: bytes=a-b" against a body of `size` bytes. Nothing where the header is
// absent, malformed or asks for several (send the whole); HttpError 416 where it lies outside.
struct ByteRange {
  uint64_t first, last;  // both inclusive
};
std::optional<ByteRange> parse_range(std::string_view header, uint64_t size);

std::string percent_decode(std::string_view text);  // HttpError 400 for a bad escape
std::string percent_encode(std::string_view text, std::string_view keep = "");

}  // namespace pretrained::server
