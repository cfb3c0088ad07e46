// Any bytes give a result or an HttpError, and what is promised of a result holds.
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string_view>

#include "server/http/exchange.h"

using namespace pretrained::server;

namespace {

template <class F>
void expect_http_error(F&& f) {
  try {
    f();
  } catch (const HttpError&) {
  }
}

void try_target(std::string_view text) {
  Request request;
  request.set_target(std::string(text));
  for (auto& segment : request.segments)
    if (segment.empty() || segment == "." || segment == ".." || segment.find('\0') != segment.npos)
      __builtin_trap();
}

void try_range(std::string_view text) {
  for (uint64_t size : {uint64_t(0), uint64_t(1), uint64_t(1000), UINT64_MAX}) {
    auto range = parse_range(text, size);
    if (range && (range->first > range->last || range->last >= size)) __builtin_trap();
  }
}

void try_gzip(std::string_view text) {
  Request request;
  request.headers.add("Content-Encoding", "gzip");
  request.body = std::make_shared<StringBody>(std::string(text));
  if (request.read_body(100'000).size() > 100'000) __builtin_trap();
}

// A whole exchange, as a worker runs it: head, framing, body, answer.
void try_exchange(std::string_view text) {
  size_t end = text.find("\r\n\r\n");
  if (end == text.npos || text.size() > 60'000) return;
  static const ListenerOptions options{.body_limit = 100'000,
                                       .stall_timeout = std::chrono::milliseconds(10)};
  static const Handler handler = [](Request& request) {
    uint64_t size = request.read_body(50'000).size();
    if (size > 50'000) __builtin_trap();
    return Response{200, {}, std::to_string(size)};
  };
  static const Observer observer;
  static const Service service{options, {"", {Network("::/0")}}, handler, observer};
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets) != 0) return;
  shutdown(sockets[1], SHUT_WR);
  Transport transport(sockets[0], nullptr);
  Buffer buffer;
  buffer.append(text);
  serve(transport, buffer, end + 4, {"192.0.2.1", "127.0.0.1:80"}, {}, service);
  close(sockets[0]);
  close(sockets[1]);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  expect_http_error([&] { try_target(text); });
  expect_http_error([&] { try_range(text); });
  expect_http_error([&] { try_gzip(text); });
  expect_http_error([&] {
    if (percent_decode(percent_encode(text)) != text) __builtin_trap();
    percent_decode(text);
  });
  try_exchange(text);
  return 0;
}
