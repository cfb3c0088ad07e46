#pragma once
// Watches a pack on its way to git: how many objects, and how large they become. A few kilobytes
// may inflate to terabytes, so this must be known before git allocates.

#include <zlib.h>

#include <cstdint>
#include <string_view>

#include "server/git/git_store.h"

namespace pretrained::server {

class PackScanner {
 public:
  // FormatError from feed() beyond `objects`, `inflated` bytes in all (a delta counts what it is
  // and what it makes), or `largest` bytes of one object.
  PackScanner(uint64_t objects, uint64_t inflated, uint64_t largest);
  PackScanner(const PackScanner&) = delete;
  ~PackScanner();
  // The next bytes of the pack, in pieces of any size. FormatError: no pack, or beyond a limit.
  void feed(std::string_view bytes);
  uint64_t objects() const { return total_; }  // what the header announced

 private:
  enum class Part { header, size, base, data, trailer };
  void take_header(uint8_t byte);
  void take_size(uint8_t byte);
  void take_base(uint8_t byte);
  size_t take_data(std::string_view bytes);
  void take_delta_sizes(const uint8_t* bytes, size_t count);
  void start_data();
  void next_object();
  void count(uint64_t bytes);

  uint64_t max_objects_, max_inflated_, max_object_;
  Part part_ = Part::header;
  size_t filled_ = 0;  // bytes of the current part
  uint64_t total_ = 0, left_ = 0, inflated_ = 0;
  int type_ = 0;
  uint64_t size_ = 0, produced_ = 0;
  int shift_ = 0;
  int delta_numbers_ = 0;  // of the two at a delta's start: read so far
  uint64_t delta_number_ = 0;
  z_stream stream_{};
};

}  // namespace pretrained::server
