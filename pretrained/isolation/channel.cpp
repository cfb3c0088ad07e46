#include "pretrained/isolation/channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "pretrained/base/error.h"

namespace pretrained::isolation {
namespace {
constexpr uint32_t kMaxMessage = 16 << 20;
}

void Channel::wait(short events, std::optional<Clock::time_point> deadline) {
  for (;;) {
    int timeout = -1;
    if (deadline) {
      auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
      if (left <= 0) throw ChannelTimeout("no answer in time");
      timeout = int(std::min<int64_t>(left, 1 << 30));
    }
    pollfd ready{socket_.get(), events, 0};
    if (poll(&ready, 1, timeout) > 0) return;
  }
}

void Channel::send(const Json& body, int file, std::optional<Clock::time_point> deadline) {
  std::string text = body.dump(0);
  uint32_t length = uint32_t(text.size());
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += text;
  if (text.size() > kMaxMessage) throw FormatError("a message that is too long");
  for (size_t at = 0; at < bytes.size();) {
    wait(POLLOUT, deadline);
    iovec part{bytes.data() + at, bytes.size() - at};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (file >= 0 && at == 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &file, sizeof file);
    }
    ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent < 0) throw ChannelClosed(std::strerror(errno));
    at += size_t(sent);
  }
}

Message Channel::receive(std::optional<Clock::time_point> deadline) {
  Message result;
  uint32_t length = 0;
  std::string bytes;
  auto fill = [&](char* buffer, size_t size) {
    for (size_t at = 0; at < size;) {
      wait(POLLIN, deadline);
      iovec part{buffer + at, size - at};
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = CMSG_LEN(sizeof(int));  // room for one descriptor, and no more
      ssize_t got = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got <= 0) throw ChannelClosed("the other side is gone");
      if (cmsghdr* header = CMSG_FIRSTHDR(&message);
          header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        int file;
        std::memcpy(&file, CMSG_DATA(header), sizeof file);
        result.file = FileDescriptor(file);
      }
      at += size_t(got);
    }
  };
  fill(reinterpret_cast<char*>(&length), sizeof length);
  if (length > kMaxMessage) throw FormatError("a message that is too long");
  bytes.resize(length);
  fill(bytes.data(), bytes.size());
  result.body = Json::parse(bytes, "a message of the model's process");
  return result;
}

}  // namespace pretrained::isolation
