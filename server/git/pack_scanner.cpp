#include "server/git/pack_scanner.h"

#include <algorithm>

namespace pretrained::server {
namespace {

constexpr int kOffsetDelta = 6, kRefDelta = 7;

}  // namespace

PackScanner::PackScanner(uint64_t objects, uint64_t inflated, uint64_t largest)
    : max_objects_(objects), max_inflated_(inflated), max_object_(largest) {
  if (inflateInit(&stream_) != Z_OK) throw Error("zlib: out of memory");
}

PackScanner::~PackScanner() { inflateEnd(&stream_); }

void PackScanner::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (part_ == Part::data) {
      bytes.remove_prefix(take_data(bytes));
      continue;
    }
    auto byte = uint8_t(bytes[0]);
    bytes.remove_prefix(1);
    if (part_ == Part::header)
      take_header(byte);
    else if (part_ == Part::size)
      take_size(byte);
    else if (part_ == Part::base)
      take_base(byte);
    else if (++filled_ > 20)
      throw FormatError("pack: bytes behind its end");
  }
}

void PackScanner::take_header(uint8_t byte) {
  static constexpr uint8_t kStart[8] = {'P', 'A', 'C', 'K', 0, 0, 0, 2};
  if (filled_ < 8 && byte != kStart[filled_])
    throw FormatError("pack: expected a pack of version 2");
  if (filled_ >= 8) total_ = total_ << 8 | byte;
  if (++filled_ < 12) return;
  if (total_ > max_objects_)
    throw FormatError("pack: " + std::to_string(total_) + " objects, at most " +
                      std::to_string(max_objects_) + " are accepted in one push");
  left_ = total_ + 1;
  next_object();
}

void PackScanner::next_object() {
  part_ = --left_ > 0 ? Part::size : Part::trailer;
  filled_ = 0;
}

void PackScanner::take_size(uint8_t byte) {
  if (filled_++ == 0) {
    type_ = byte >> 4 & 7;
    size_ = byte & 15;
    shift_ = 4;
  } else {
    if (shift_ > 53) throw FormatError("pack: an object's size has too many digits");
    size_ |= uint64_t(byte & 0x7f) << shift_;
    shift_ += 7;
  }
  if (byte & 0x80) return;
  if (type_ == 0 || type_ == 5)
    throw FormatError("pack: object type " + std::to_string(type_) + " does not exist");
  count(size_);
  filled_ = 0;
  if (type_ == kOffsetDelta || type_ == kRefDelta)
    part_ = Part::base;
  else
    start_data();
}

void PackScanner::take_base(uint8_t byte) {
  ++filled_;
  if (type_ == kRefDelta ? filled_ == 20 : !(byte & 0x80)) start_data();
  if (filled_ > 20) throw FormatError("pack: a delta's offset has too many digits");
}

void PackScanner::start_data() {
  part_ = Part::data;
  filled_ = 0;
  produced_ = 0;
  delta_numbers_ = type_ == kOffsetDelta || type_ == kRefDelta ? 0 : 2;
  delta_number_ = 0;
  shift_ = 0;
  inflateReset(&stream_);
}

size_t PackScanner::take_data(std::string_view bytes) {
  uint8_t out[32 << 10];
  stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream_.avail_in = uInt(std::min<size_t>(bytes.size(), 1 << 30));
  size_t given = stream_.avail_in;
  int code = Z_OK;
  while (code == Z_OK) {
    stream_.next_out = out;
    stream_.avail_out = sizeof out;
    code = inflate(&stream_, Z_NO_FLUSH);
    size_t made = sizeof out - stream_.avail_out;
    produced_ += made;
    if (produced_ > size_) throw FormatError("pack: an object is larger than it says");
    take_delta_sizes(out, made);
    if (stream_.avail_in == 0 && stream_.avail_out > 0) break;
  }
  if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
    throw FormatError("pack: an object's compressed bytes are damaged");
  if (code == Z_STREAM_END) {
    if (produced_ != size_) throw FormatError("pack: an object is smaller than it says");
    next_object();
  }
  return given - stream_.avail_in;
}

// A delta starts with two numbers: the size of its base and of what it makes.
void PackScanner::take_delta_sizes(const uint8_t* bytes, size_t available) {
  for (size_t i = 0; i < available && delta_numbers_ < 2; ++i) {
    if (shift_ > 56) throw FormatError("pack: a delta's size has too many digits");
    delta_number_ |= uint64_t(bytes[i] & 0x7f) << shift_;
    shift_ += 7;
    if (bytes[i] & 0x80) continue;
    if (++delta_numbers_ == 2) count(delta_number_);
    delta_number_ = 0;
    shift_ = 0;
  }
}

void PackScanner::count(uint64_t bytes) {
  if (bytes > max_object_)
    throw FormatError("pack: an object of " + std::to_string(bytes) + " bytes, at most " +
                      std::to_string(max_object_) + " are accepted: use git-lfs for large files");
  inflated_ += bytes;
  if (inflated_ > max_inflated_)
    throw FormatError("pack: inflates to more than the " + std::to_string(max_inflated_) +
                      " bytes that one push may have");
}

}  // namespace pretrained::server
