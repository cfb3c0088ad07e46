#pragma once
// For the tests of this room: bytes that every language can make again.

#include <cstdint>
#include <string>
#include <vector>

#include "pretrained/base/error.h"
#include "pretrained/xet/chunker.h"
#include "pretrained/xet/hash.h"

namespace pretrained::xet::testing {

// xorshift64*, 8 little-endian bytes a step.
inline std::string random_bytes(uint64_t seed, size_t size) {
  std::string out;
  for (uint64_t x = seed; out.size() < size;) {
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    uint64_t word = x * 0x2545F4914F6CDD1Dull;
    for (int i = 0; i < 8; ++i) out += char(word >> (8 * i) & 0xFF);
  }
  out.resize(size);
  return out;
}

inline std::vector<uint64_t> ends_of(std::string_view bytes, size_t step = ~size_t(0)) {
  std::vector<uint64_t> ends;
  Chunker chunker;
  for (size_t at = 0; at < bytes.size(); at += std::min(step, bytes.size() - at))
    chunker.feed(bytes.substr(at, step), ends);
  chunker.finish(ends);
  return ends;
}

inline std::vector<std::string_view> chunks_of(std::string_view bytes) {
  std::vector<std::string_view> chunks;
  uint64_t begin = 0;
  for (uint64_t end : ends_of(bytes)) {
    chunks.push_back(bytes.substr(begin, end - begin));
    begin = end;
  }
  return chunks;
}

inline std::vector<ChunkSize> sizes_of(std::string_view bytes) {
  std::vector<ChunkSize> sizes;
  for (auto chunk : chunks_of(bytes)) sizes.push_back({chunk_hash(chunk), chunk.size()});
  return sizes;
}

// What a call throws, or "no error".
template <class F>
std::string error_of(F call) {
  try {
    call();
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace pretrained::xet::testing
