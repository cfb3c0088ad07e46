// Any bytes decode to the size that was asked for or give a pretrained::Error; any bytes survive a
// round trip. The first byte picks the scheme, two more the size.
#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"
#include "pretrained/xet/compression.h"

using namespace pretrained;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  auto scheme = xet::Scheme(data[0] % 3);
  try {
    xet::decompress(bytes, scheme, size_t(data[1]) | size_t(data[2]) << 8);
  } catch (const Error&) {
  }
  if (xet::decompress(xet::compress(bytes, scheme), scheme, bytes.size()) != bytes)
    __builtin_trap();
  std::string stored;
  scheme = xet::compress(bytes, stored);
  if (scheme == xet::Scheme::none) return 0;
  if (xet::decompress(stored, scheme, bytes.size()) != bytes) __builtin_trap();
  return 0;
}
