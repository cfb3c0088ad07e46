#pragma once
// Content-defined chunking: where a file is cut depends on its bytes alone, so that an insertion
// changes the chunks around it and no others.
//
//   h = (h << 1) + gear[byte], 64 bits: only the last 64 bytes count
//   a chunk ends after a byte where it is at least 8 KiB long and the top 16 bits of h are zero,
//   and at 128 KiB whatever h is; 64 KiB on average
//
// The cuts are exactly those of hf_xet, however the bytes are fed. (The JavaScript client can cut
// a little below the minimum; such chunks are valid everywhere, they only match less often.)
// Spec: https://huggingface.co/docs/xet/chunking
// Threads: a Chunker belongs to one thread.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::xet {

inline constexpr uint64_t kMinChunk = 8 << 10;
inline constexpr uint64_t kMaxChunk = 128 << 10;

class PRETRAINED_API Chunker {
 public:
  // The next bytes of the file. Appends to `ends` the offset in the file behind each chunk that is
  // now known to be complete; the end of one chunk is the start of the next.
  void feed(std::string_view bytes, std::vector<uint64_t>& ends);
  // The end of the file: appends the end of the last chunk, where there is one. The Chunker is then
  // as new.
  void finish(std::vector<uint64_t>& ends);
  uint64_t start() const { return start_; }  // of the chunk that is still open
  uint64_t size() const { return size_; }    // bytes fed

 private:
  bool settle(std::vector<uint64_t>& ends);
  void scan(std::string_view bytes, uint64_t base);
  void scan_lanes(const unsigned char* bytes, size_t lane, uint64_t at);

  uint64_t size_ = 0, start_ = 0;
  uint64_t scanned_ = kMinChunk - 64;  // where h_ stands; cuts up to here are found
  uint64_t h_ = 0;
  std::vector<uint64_t> found_;  // possible ends, ascending, from found_[next_] on
  size_t next_ = 0;
};

}  // namespace pretrained::xet
