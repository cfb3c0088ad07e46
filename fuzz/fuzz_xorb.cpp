// Any bytes give a result or a pretrained::Error; whole and in pieces give the same; what is
// verified can be decoded.
#include <cstdint>
#include <optional>
#include <string_view>

#include "pretrained/base/error.h"
#include "pretrained/xet/xorb.h"

using namespace pretrained;

static std::optional<xet::XorbTable> verify(std::string_view bytes, size_t step) {
  try {
    xet::XorbVerifier verifier;
    for (size_t at = 0; at < bytes.size(); at += step) verifier.feed(bytes.substr(at, step));
    return verifier.finish();
  } catch (const Error&) {
    return {};
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto whole = verify(bytes, size + 1), pieces = verify(bytes, 7);
  if (whole.has_value() != pieces.has_value()) __builtin_trap();
  try {
    auto table = xet::parse_xorb(bytes);
    uint64_t end = 0;
    for (auto& chunk : table.chunks) {
      if (chunk.offset != end || chunk.end() > size) __builtin_trap();
      end = chunk.end();
    }
    if (table.end != end) __builtin_trap();
  } catch (const Error&) {
    if (whole) __builtin_trap();
  }
  if (!whole) return 0;
  if (whole->chunks != pieces->chunks || whole->hash != pieces->hash) __builtin_trap();
  for (auto& chunk : whole->chunks)
    if (xet::chunk_hash(xet::decode_chunk(bytes, chunk)) != chunk.hash) __builtin_trap();
  return 0;
}
