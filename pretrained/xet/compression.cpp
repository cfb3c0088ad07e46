#include "pretrained/xet/compression.h"

#include <lz4frame.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "pretrained/base/error.h"

namespace pretrained::xet {
namespace {

// What is tried first: pieces from all over, of whole groups of four bytes.
constexpr size_t kPieces = 8, kPiece = 1 << 10, kSample = kPieces * kPiece;
constexpr size_t kLeastGain = 32;  // a part of the size

std::array<size_t, 5> planes(size_t size) {
  std::array<size_t, 5> begin{};
  for (size_t g = 0; g < 4; ++g) begin[g + 1] = begin[g] + (size + 3 - g) / 4;
  return begin;
}

void split_bytes(std::string_view raw, std::string& out) {
  out.resize(raw.size());
  auto begin = planes(raw.size());
  size_t groups = raw.size() / 4;
  char *p0 = out.data(), *p1 = p0 + begin[1], *p2 = p0 + begin[2], *p3 = p0 + begin[3];
  const char* in = raw.data();
  for (size_t i = 0; i < groups; ++i) {
    p0[i] = in[4 * i];
    p1[i] = in[4 * i + 1];
    p2[i] = in[4 * i + 2];
    p3[i] = in[4 * i + 3];
  }
  for (size_t i = 4 * groups; i < raw.size(); ++i) out[begin[i % 4] + groups] = raw[i];
}

void join_bytes(std::string_view split, char* out) {
  auto begin = planes(split.size());
  size_t groups = split.size() / 4;
  const char *p0 = split.data(), *p1 = p0 + begin[1], *p2 = p0 + begin[2], *p3 = p0 + begin[3];
  for (size_t i = 0; i < groups; ++i) {
    out[4 * i] = p0[i];
    out[4 * i + 1] = p1[i];
    out[4 * i + 2] = p2[i];
    out[4 * i + 3] = p3[i];
  }
  for (size_t i = 4 * groups; i < split.size(); ++i) out[i] = split[begin[i % 4] + groups];
}

void lz4_frame(std::string_view raw, std::string& out) {
  LZ4F_preferences_t preferences{};
  preferences.frameInfo.blockSizeID = LZ4F_max1MB;  // the smallest that holds it is taken
  preferences.frameInfo.blockMode = LZ4F_blockIndependent;
  out.resize(LZ4F_compressFrameBound(raw.size(), &preferences));
  size_t size = LZ4F_compressFrame(out.data(), out.size(), raw.data(), raw.size(), &preferences);
  if (LZ4F_isError(size)) throw Error(std::string("LZ4: ") + LZ4F_getErrorName(size));
  out.resize(size);
}

void pack(std::string_view raw, Scheme scheme, std::string& out) {
  if (scheme == Scheme::lz4) return lz4_frame(raw, out);
  thread_local std::string split;  // made once: the pages of a fresh one cost more than the packing
  split_bytes(raw, split);
  lz4_frame(split, out);
}

[[noreturn]] void fail(const std::string& what) { throw FormatError("LZ4 frame: " + what); }

// One per thread: a frame may ask for megabytes of buffers, which are then made only once.
LZ4F_dctx* decoder() {
  struct Free {
    void operator()(LZ4F_dctx* context) const { LZ4F_freeDecompressionContext(context); }
  };
  thread_local std::unique_ptr<LZ4F_dctx, Free> context;
  if (!context) {
    LZ4F_dctx* made = nullptr;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&made, LZ4F_VERSION)))
      throw Error("LZ4: no memory for a decoder");
    context.reset(made);
  }
  LZ4F_resetDecompressionContext(context.get());
  return context.get();
}

void decode_frame(std::string_view stored, char* out, size_t size) {
  LZ4F_dctx* context = decoder();
  LZ4F_decompressOptions_t options{};
  options.stableDst = 1;
  size_t read = 0, written = 0;
  for (;;) {
    size_t in = stored.size() - read, room = size - written;
    size_t wants =
        LZ4F_decompress(context, out + written, &room, stored.data() + read, &in, &options);
    if (LZ4F_isError(wants)) fail(LZ4F_getErrorName(wants));
    read += in;
    written += room;
    if (wants == 0) break;
    if (in == 0 && room == 0) {
      // It wants more of what there is no more of.
      if (read == stored.size() && written < size) fail("truncated");
      fail("holds more than the " + std::to_string(size) + " bytes expected");
    }
  }
  if (written != size)
    fail("holds " + std::to_string(written) + " bytes, expected " + std::to_string(size));
  if (read != stored.size()) fail(std::to_string(stored.size() - read) + " bytes follow its end");
}

}  // namespace

const char* scheme_name(Scheme scheme) {
  constexpr const char* kNames[] = {"none", "lz4", "bg4-lz4"};
  return kNames[size_t(scheme)];
}

std::string compress(std::string_view raw, Scheme scheme) {
  std::string out(raw);
  if (scheme != Scheme::none) pack(raw, scheme, out);
  return out;
}

Scheme compress(std::string_view raw, std::string& stored) {
  thread_local std::string pieces;
  std::string_view sample = raw;
  if (raw.size() > 2 * kSample) {
    pieces.clear();
    for (size_t i = 0; i < kPieces; ++i)
      pieces += raw.substr((raw.size() - kPiece) * i / (kPieces - 1) / 4 * 4, kPiece);
    sample = pieces;
  }
  auto gains = [&](std::string_view bytes, size_t size) {
    return size + bytes.size() / kLeastGain < bytes.size();
  };
  pack(sample, Scheme::bg4_lz4, stored);
  size_t grouped = stored.size();
  pack(sample, Scheme::lz4, stored);
  Scheme scheme = grouped < stored.size() ? Scheme::bg4_lz4 : Scheme::lz4;
  // Noise, such as the mantissas of trained weights, is seen here already.
  if (!gains(sample, std::min(grouped, stored.size()))) return Scheme::none;
  if (sample.size() != raw.size() || scheme != Scheme::lz4) pack(raw, scheme, stored);
  return gains(raw, stored.size()) ? scheme : Scheme::none;
}

Compressed compress(std::string_view raw) {
  Compressed out;
  out.scheme = compress(raw, out.bytes);
  if (out.scheme == Scheme::none) out.bytes = raw;
  return out;
}

void decompress(std::string_view stored, Scheme scheme, char* out, size_t size) {
  if (scheme == Scheme::none) {
    if (stored.size() != size)
      throw FormatError("stored bytes: " + std::to_string(stored.size()) + ", expected " +
                        std::to_string(size));
    std::copy(stored.begin(), stored.end(), out);
  } else if (scheme == Scheme::lz4) {
    decode_frame(stored, out, size);
  } else if (scheme == Scheme::bg4_lz4) {
    std::string split(size, '\0');
    decode_frame(stored, split.data(), size);
    join_bytes(split, out);
  } else {
    throw FormatError("unknown compression scheme " + std::to_string(int(scheme)));
  }
}

std::string decompress(std::string_view stored, Scheme scheme, size_t size) {
  std::string out(size, '\0');
  decompress(stored, scheme, out.data(), size);
  return out;
}

}  // namespace pretrained::xet
