#pragma once
// git's framing of requests and answers: https://git-scm.com/docs/gitprotocol-common

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace pretrained::server {

inline constexpr size_t kMaxPacket = 65520;  // with its four digits of length
inline constexpr const char* kFlush = "0000";

std::string packet(std::string_view payload);

// A request body: packets first, then perhaps a pack.
class PacketReader {
 public:
  explicit PacketReader(const std::function<size_t(char*, size_t)>& read) : read_(read) {}
  // Nothing: a flush, or the end of the body where a packet could start. FormatError: no packet.
  std::optional<std::string> next();
  // What follows the packets, up to `size` bytes; 0 at the end.
  size_t read(char* data, size_t size);
  // Reads on so that the client sees the answer, but not for ever.
  void discard(uint64_t limit);

 private:
  bool fill(char* data, size_t size);  // false: ended before the first byte
  const std::function<size_t(char*, size_t)>& read_;
};

}  // namespace pretrained::server
