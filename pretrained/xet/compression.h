#pragma once
// How a chunk is stored in a xorb.
//
//   none      the bytes
//   lz4       one LZ4 frame
//   bg4_lz4   byte i of every group of four bytes first: plane 0, then planes 1, 2, 3, and that as
//             one LZ4 frame. It packs floats, whose exponents are alike.
//
// Decoding is bounded by the size that the caller expects, never by what the bytes say.
// Spec: https://huggingface.co/docs/xet/xorb
// Threads: all functions are reentrant.

#include <cstdint>
#include <string>
#include <string_view>

#include "pretrained/base/export.h"

namespace pretrained::xet {

enum class Scheme : uint8_t { none = 0, lz4 = 1, bg4_lz4 = 2 };

PRETRAINED_API const char* scheme_name(Scheme scheme);

// Packs with the scheme that stores these bytes shortest, judged by a sample. Where that saves less
// than a thirty-second it gives none: store `raw` itself, what is in `stored` means nothing.
PRETRAINED_API Scheme compress(std::string_view raw, std::string& stored);
struct Compressed {
  Scheme scheme = Scheme::none;
  std::string bytes;
};
PRETRAINED_API Compressed compress(std::string_view raw);  // the same with a string of its own
PRETRAINED_API std::string compress(std::string_view raw, Scheme scheme);

// Exactly `size` bytes into `out`. FormatError where the stored bytes are damaged, give more or
// fewer, or do not end where the frame ends.
PRETRAINED_API void decompress(std::string_view stored, Scheme scheme, char* out, size_t size);
PRETRAINED_API std::string decompress(std::string_view stored, Scheme scheme, size_t size);

}  // namespace pretrained::xet
