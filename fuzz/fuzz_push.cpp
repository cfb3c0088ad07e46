// What git-receive-pack reads before git does: packets, then a pack. Any bytes, in pieces of any
// size, give an answer or a FormatError.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "pretrained/base/error.h"
#include "server/git/pack_scanner.h"
#include "server/git/pkt_line.h"

using namespace pretrained;
using namespace pretrained::server;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  size_t step = bytes.empty() ? 1 : 1 + size_t(data[0]);
  if (!bytes.empty()) bytes.remove_prefix(1);
  std::function<size_t(char*, size_t)> read = [&](char* out, size_t room) {
    size_t n = std::min({room, bytes.size(), step});
    std::memcpy(out, bytes.data(), n);
    bytes.remove_prefix(n);
    return n;
  };
  try {
    PacketReader packets(read);
    while (auto line = packets.next())
      if (line->size() > kMaxPacket) __builtin_trap();
    PackScanner scanner(1000, 1 << 20, 1 << 18);
    char buffer[300];
    while (size_t n = packets.read(buffer, sizeof buffer)) scanner.feed({buffer, n});
  } catch (const FormatError&) {
  }
  return 0;
}
