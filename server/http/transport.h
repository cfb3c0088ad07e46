#pragma once
// The bytes of one connection, plain or TLS, over a non-blocking socket. The I/O thread calls it
// when the socket is ready; a worker thread blocks on it through BlockingStream. One thread at a
// time.

#include <openssl/ssl.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/http.h"

namespace pretrained::server {

struct FreeTls {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* session) const { SSL_free(session); }
};
using TlsContext = std::unique_ptr<SSL_CTX, FreeTls>;
// IoError names the file that OpenSSL cannot use.
TlsContext make_tls_context(const std::filesystem::path& certificate,
                            const std::filesystem::path& key);

class Transport {
 public:
  // Does not own the socket. Without `context`: plain.
  Transport(int socket, SSL_CTX* context);

  // want_…: try again when the socket can be read or written. closed: the other side ended the
  // stream. failed: it is broken.
  enum class Status { done, want_read, want_write, closed, failed };
  struct Result {
    Status status;
    size_t bytes = 0;
  };
  Result handshake();
  Result receive(char* data, size_t size);
  // `more`: further bytes follow at once, so the kernel may wait for them to fill its packets.
  Result send(std::string_view bytes, bool more = false);
  // By the kernel, without a copy: not for TLS. closed: the file ends before `offset`.
  Result send_file(int file, uint64_t offset, uint64_t length);

  bool encrypted() const { return tls_ != nullptr; }
  // Bytes that were taken off the socket and not yet received here.
  bool pending() const { return tls_ && SSL_has_pending(tls_.get()); }
  void say_goodbye();  // TLS: so that the other side knows that nothing is missing
  int socket() const { return socket_; }

 private:
  Result tls_result(int returned);
  int socket_;
  std::unique_ptr<SSL, FreeTls> tls_;
};

// Bytes that came from the socket and were not used yet.
class Buffer {
 public:
  std::string_view view() const { return std::string_view(bytes_).substr(start_); }
  void append(std::string_view bytes);
  void consume(size_t size);
  // Gives the memory of an empty buffer back.
  void shrink() {
    if (view().empty()) std::string().swap(bytes_);
  }

 private:
  std::string bytes_;
  size_t start_ = 0;
};

// At least `bytes` must move in every `timeout` spent waiting for the other side. What the handler
// does in between does not count.
struct StallRule {
  std::chrono::milliseconds timeout;
  uint64_t bytes;
};

class BlockingStream {
 public:
  BlockingStream(Transport& transport, Buffer& buffer, StallRule rule);
  // 0 at the end of the stream. HttpError 408 by the stall rule; ConnectionLost.
  size_t read(char* data, size_t size);
  // Up to CR LF, without it; HttpError 400 where it is longer than `limit`.
  std::string read_line(size_t limit);
  // ConnectionLost, also by the stall rule. `more` as above.
  void write(std::string_view bytes, bool more = false);
  // Also IoError where the file is shorter or cannot be read.
  void send_file(int file, uint64_t offset, uint64_t length);
  uint64_t bytes_in() const { return in_.total; }
  uint64_t bytes_out() const { return out_.total; }
  bool buffered() const { return !buffer_.view().empty(); }

 private:
  struct Direction {
    std::chrono::nanoseconds left;
    uint64_t moved = 0, total = 0;
  };
  // Waits as `status` says; false where the time is up.
  bool wait(Direction& direction, Transport::Status status);
  void moved(Direction& direction, uint64_t bytes);
  size_t receive(char* data, size_t size);
  void wait_to_write(Transport::Status status);
  void copy_file(int file, uint64_t offset, uint64_t length);
  Transport& transport_;
  Buffer& buffer_;
  StallRule rule_;
  Direction in_, out_;
};

}  // namespace pretrained::server
