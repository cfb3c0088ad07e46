#pragma once
// Messages between the host and the worker: a JSON object and up to one descriptor, over a Unix
// socket. Whatever comes from the other side is checked before it is used.
//
//   u32 length (little-endian), then so many bytes of JSON; a descriptor rides on the first byte

#include <chrono>
#include <optional>

#include "pretrained/base/files.h"
#include "pretrained/base/json.h"

namespace pretrained::isolation {

struct Message {
  Json body;
  FileDescriptor file;  // none: get() < 0
};

// The other side closed its end: it ended or was killed.
class ChannelClosed : public Error {
 public:
  using Error::Error;
};
class ChannelTimeout : public Error {
 public:
  using Error::Error;
};

class Channel {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Channel(FileDescriptor socket) : socket_(std::move(socket)) {}
  // Both throw ChannelClosed, and ChannelTimeout at the deadline.
  void send(const Json& body, int file = -1, std::optional<Clock::time_point> deadline = {});
  Message receive(std::optional<Clock::time_point> deadline = {});

 private:
  void wait(short events, std::optional<Clock::time_point> deadline);
  FileDescriptor socket_;
};

}  // namespace pretrained::isolation
