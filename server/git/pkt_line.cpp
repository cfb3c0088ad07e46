#include "server/git/pkt_line.h"

#include <cstdio>

#include "pretrained/base/error.h"

namespace pretrained::server {

std::string packet(std::string_view payload) {
  char length[8];
  snprintf(length, sizeof length, "%04zx", payload.size() + 4);
  return length + std::string(payload);
}

bool PacketReader::fill(char* data, size_t size) {
  size_t filled = 0;
  while (filled < size) {
    size_t got = read_(data + filled, size - filled);
    if (got == 0 && filled == 0) return false;
    if (got == 0) throw FormatError("git request: ends within a packet");
    filled += got;
  }
  return true;
}

std::optional<std::string> PacketReader::next() {
  char digits[4];
  if (!fill(digits, 4)) return std::nullopt;
  size_t length = 0;
  for (char c : digits) {
    int value = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (value < 0) throw FormatError("git request: a packet's length is no hexadecimal number");
    length = length * 16 + size_t(value);
  }
  if (length == 0) return std::nullopt;
  if (length < 4 || length > kMaxPacket)
    throw FormatError("git request: a packet of length " + std::to_string(length));
  std::string payload(length - 4, '\0');
  if (!payload.empty() && !fill(payload.data(), payload.size()))
    throw FormatError("git request: ends within a packet");
  return payload;
}

size_t PacketReader::read(char* data, size_t size) { return read_(data, size); }

void PacketReader::discard(uint64_t limit) {
  char buffer[16384];
  for (uint64_t seen = 0; seen < limit;) {
    size_t got = read_(buffer, sizeof buffer);
    if (got == 0) return;
    seen += got;
  }
}

}  // namespace pretrained::server
