#include "server/http/transport.h"

#include <openssl/err.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "pretrained/base/error.h"

namespace pretrained::server {
namespace {
using Status = Transport::Status;
using Clock = std::chrono::steady_clock;

constexpr size_t kFilePiece = 256 << 10;  // read at once where TLS must see the bytes
constexpr size_t kSendfilePiece = 4 << 20;

Transport::Result failure(Status when_full) {
  bool full = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
  return {full ? when_full : Status::failed};
}

[[noreturn]] void throw_short(uint64_t length) {
  throw IoError("a file to send ends " + std::to_string(length) + " bytes too early");
}

[[noreturn]] void throw_tls(const std::filesystem::path& file) {
  const char* reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  throw IoError(file.string() + ": " + (reason ? reason : "cannot be used for TLS"));
}

}  // namespace

TlsContext make_tls_context(const std::filesystem::path& certificate,
                            const std::filesystem::path& key) {
  TlsContext context(SSL_CTX_new(TLS_server_method()));
  if (!context) throw_tls(certificate);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context.get(), certificate.c_str()) != 1)
    throw_tls(certificate);
  if (SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) != 1)
    throw_tls(key);
  if (SSL_CTX_check_private_key(context.get()) != 1) throw_tls(key);
  return context;
}

Transport::Transport(int socket, SSL_CTX* context) : socket_(socket) {
  if (!context) return;
  tls_.reset(SSL_new(context));
  if (!tls_ || SSL_set_fd(tls_.get(), socket) != 1) throw std::bad_alloc();
  SSL_set_accept_state(tls_.get());
}

Transport::Result Transport::tls_result(int returned) {
  if (returned > 0) return {Status::done, size_t(returned)};
  int error = SSL_get_error(tls_.get(), returned);
  ERR_clear_error();
  switch (error) {
    case SSL_ERROR_WANT_READ:
      return {Status::want_read};
    case SSL_ERROR_WANT_WRITE:
      return {Status::want_write};
    case SSL_ERROR_ZERO_RETURN:
      return {Status::closed};
    default:
      return {Status::failed};
  }
}

Transport::Result Transport::handshake() {
  return tls_ ? tls_result(SSL_do_handshake(tls_.get())) : Result{Status::done};
}

Transport::Result Transport::receive(char* data, size_t size) {
  if (tls_) return tls_result(SSL_read(tls_.get(), data, int(std::min<size_t>(size, INT_MAX))));
  ssize_t got = recv(socket_, data, size, 0);
  if (got < 0) return failure(Status::want_read);
  return {got > 0 ? Status::done : Status::closed, size_t(got)};
}

Transport::Result Transport::send(std::string_view bytes, bool more) {
  if (tls_)
    return tls_result(
        SSL_write(tls_.get(), bytes.data(), int(std::min<size_t>(bytes.size(), INT_MAX))));
  ssize_t put = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  if (put < 0) return failure(Status::want_write);
  return {Status::done, size_t(put)};
}

Transport::Result Transport::send_file(int file, uint64_t offset, uint64_t length) {
  off_t position = off_t(offset);
  ssize_t put = ::sendfile(socket_, file, &position, std::min<uint64_t>(length, kSendfilePiece));
  if (put < 0) return failure(Status::want_write);
  return {put > 0 ? Status::done : Status::closed, size_t(put)};
}

void Transport::say_goodbye() {
  if (!tls_ || !SSL_is_init_finished(tls_.get())) return;
  SSL_shutdown(tls_.get());
  ERR_clear_error();
}

void Buffer::append(std::string_view bytes) {
  if (start_ > bytes_.size() / 2) {
    bytes_.erase(0, start_);
    start_ = 0;
  }
  bytes_.append(bytes);
}

void Buffer::consume(size_t size) {
  start_ += size;
  if (start_ < bytes_.size()) return;
  bytes_.clear();
  start_ = 0;
}

BlockingStream::BlockingStream(Transport& transport, Buffer& buffer, StallRule rule)
    : transport_(transport), buffer_(buffer), rule_(rule), in_{rule.timeout}, out_{rule.timeout} {}

bool BlockingStream::wait(Direction& direction, Status status) {
  pollfd ready{transport_.socket(), short(status == Status::want_read ? POLLIN : POLLOUT), 0};
  auto began = Clock::now();
  auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(direction.left).count();
  int result = poll(&ready, 1, int(std::clamp<int64_t>(milliseconds, 0, INT_MAX)));
  direction.left -= Clock::now() - began;
  return result > 0 || direction.left.count() > 0;
}

void BlockingStream::moved(Direction& direction, uint64_t bytes) {
  direction.moved += bytes;
  if (direction.moved < rule_.bytes) return;
  direction.moved = 0;
  direction.left = rule_.timeout;
}

size_t BlockingStream::receive(char* data, size_t size) {
  for (;;) {
    auto result = transport_.receive(data, size);
    if (result.status == Status::closed) return 0;
    if (result.status == Status::failed) throw ConnectionLost("the client broke the connection");
    if (result.status == Status::done) {
      moved(in_, result.bytes);
      return result.bytes;
    }
    if (!wait(in_, result.status))
      throw HttpError(408, "",
                      "the body moved less than " + std::to_string(rule_.bytes) + " bytes in " +
                          std::to_string(rule_.timeout.count()) + " ms");
  }
}

size_t BlockingStream::read(char* data, size_t size) {
  if (size == 0) return 0;
  if (auto ready = buffer_.view(); !ready.empty()) {
    size = std::min(size, ready.size());
    std::memcpy(data, ready.data(), size);
    buffer_.consume(size);
  } else {
    size = receive(data, size);
  }
  in_.total += size;
  return size;
}

std::string BlockingStream::read_line(size_t limit) {
  for (size_t searched = 0;;) {
    auto ready = buffer_.view();
    size_t end = ready.find("\r\n", searched);
    bool whole = end != ready.npos;  // if not, the last byte may be the CR
    if (whole ? end > limit : ready.size() > limit + 1)
      throw HttpError(400, "", "a line that is too long");
    if (whole) {
      std::string line(ready.substr(0, end));
      buffer_.consume(end + 2);
      in_.total += end + 2;
      return line;
    }
    searched = ready.empty() ? 0 : ready.size() - 1;
    char piece[16384];
    size_t got = receive(piece, sizeof piece);
    if (got == 0) throw HttpError(400, "", "the body ended in the middle");
    buffer_.append({piece, got});
  }
}

void BlockingStream::wait_to_write(Status status) {
  if (status == Status::failed || status == Status::closed)
    throw ConnectionLost("the client broke the connection");
  if (!wait(out_, status)) throw ConnectionLost("the client stopped reading");
}

void BlockingStream::write(std::string_view bytes, bool more) {
  while (!bytes.empty()) {
    auto result = transport_.send(bytes, more);
    if (result.status != Status::done) {
      wait_to_write(result.status);
      continue;
    }
    moved(out_, result.bytes);
    out_.total += result.bytes;
    bytes.remove_prefix(result.bytes);
  }
}

void BlockingStream::send_file(int file, uint64_t offset, uint64_t length) {
  if (transport_.encrypted()) return copy_file(file, offset, length);
  while (length > 0) {
    auto result = transport_.send_file(file, offset, length);
    if (result.status == Status::closed) throw_short(length);
    if (result.status != Status::done) {
      wait_to_write(result.status);
      continue;
    }
    moved(out_, result.bytes);
    out_.total += result.bytes;
    offset += result.bytes;
    length -= result.bytes;
  }
}

void BlockingStream::copy_file(int file, uint64_t offset, uint64_t length) {
  std::vector<char> piece(std::min<uint64_t>(length, kFilePiece));
  while (length > 0) {
    ssize_t got =
        pread(file, piece.data(), std::min<uint64_t>(length, piece.size()), off_t(offset));
    if (got < 0) throw IoError(std::string("reading a file to send: ") + std::strerror(errno));
    if (got == 0) throw_short(length);
    write({piece.data(), size_t(got)});
    offset += uint64_t(got);
    length -= uint64_t(got);
  }
}

}  // namespace pretrained::server
