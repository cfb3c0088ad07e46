#include "pretrained/xet/chunker.h"

#include <algorithm>
#include <array>

#include "pretrained/xet/gear_table.h"

namespace pretrained::xet {
namespace {

constexpr size_t kWindow = 64;                     // bytes that h remembers
constexpr uint64_t kCutBelow = uint64_t(1) << 48;  // h < this: its top 16 bits are zero
constexpr size_t kLanes = 4;
constexpr size_t kLane = 4096;
constexpr size_t kSmallestLane = 512;  // below it the windows read twice cost more than lanes give
constexpr size_t kStep = 8;            // bytes between two looks at whether something was found

using Hashes = uint64_t __attribute__((vector_size(16)));
using Words = int16_t __attribute__((vector_size(16)));

// Rolls h over the bytes and notes the ends it finds; `at` is their offset in the file.
uint64_t roll(const unsigned char* bytes, size_t size, uint64_t h, uint64_t at,
              std::vector<uint64_t>& ends) {
  for (size_t i = 0; i < size; ++i) {
    h = (h << 1) + kGear[bytes[i]];
    if (h < kCutBelow) [[unlikely]]
      ends.push_back(at + i + 1);
  }
  return h;
}

}  // namespace

// One rolling hash is a chain of dependent instructions, two cycles a byte. Because h forgets all
// but 64 bytes, four of them can roll at once over neighbouring stretches, two in each vector. Ends
// found behind a cut are kept: whether one counts is known once the cut before it is.
void Chunker::scan_lanes(const unsigned char* bytes, size_t lane, uint64_t at) {
  Hashes h[2] = {{h_, 0}, {0, 0}};
  for (size_t i = lane - kWindow; i < lane; ++i) {
    h[0] = h[0] + h[0] + Hashes{0, kGear[bytes[i]]};
    h[1] = h[1] + h[1] + Hashes{kGear[bytes[i + lane]], kGear[bytes[i + 2 * lane]]};
  }
  h[0][0] = h_;
  std::array<std::vector<uint64_t>, kLanes> hits;
  for (size_t i = 0; i < lane; i += kStep) {
    Hashes before[2] = {h[0], h[1]};
    Words zero = {};  // 16-bit words that were zero in any of the steps
#pragma GCC unroll 8
    for (size_t k = 0; k < kStep; ++k) {
      auto* p = bytes + i + k;
      h[0] = h[0] + h[0] + Hashes{kGear[p[0]], kGear[p[lane]]};
      h[1] = h[1] + h[1] + Hashes{kGear[p[2 * lane]], kGear[p[3 * lane]]};
      zero |= Words(Words(h[0]) == 0) | Words(Words(h[1]) == 0);
    }
    Hashes any = Hashes(zero);
    if ((any[0] | any[1]) < kCutBelow) [[likely]]
      continue;
    for (size_t k = 0; k < kLanes; ++k)
      roll(bytes + k * lane + i, kStep, before[k / 2][k % 2], at + k * lane + i, hits[k]);
  }
  h_ = h[1][1];
  for (auto& lane_hits : hits) found_.insert(found_.end(), lane_hits.begin(), lane_hits.end());
}

void Chunker::scan(std::string_view bytes, uint64_t base) {
  auto* data = reinterpret_cast<const unsigned char*>(bytes.data()) + (scanned_ - base);
  size_t left = size_t(base + bytes.size() - scanned_);
  size_t lane = std::min(left / kLanes / kStep * kStep, kLane);
  if (lane >= kSmallestLane) {
    scan_lanes(data, lane, scanned_);
    scanned_ += lane * kLanes;
  } else {
    size_t count = std::min(left, kLane);
    h_ = roll(data, count, h_, scanned_, found_);
    scanned_ += count;
  }
}

// Cuts once, if what was scanned tells where.
bool Chunker::settle(std::vector<uint64_t>& ends) {
  uint64_t smallest = start_ + kMinChunk, largest = start_ + kMaxChunk;
  while (next_ < found_.size() && found_[next_] < smallest) ++next_;
  if (next_ < found_.size() && found_[next_] <= largest)
    start_ = found_[next_++];
  else if (scanned_ >= largest)
    start_ = largest;
  else {
    found_.clear();  // whatever is left lies before the minimum
    next_ = 0;
    return false;
  }
  ends.push_back(start_);
  // Nothing can end before the minimum: go on just before it.
  if (scanned_ < start_ + kMinChunk - kWindow) {
    scanned_ = start_ + kMinChunk - kWindow;
    h_ = 0;
  }
  return true;
}

void Chunker::feed(std::string_view bytes, std::vector<uint64_t>& ends) {
  uint64_t base = size_;
  size_ += bytes.size();
  while (scanned_ < size_) {
    scan(bytes, base);
    while (settle(ends)) {
    }
  }
}

void Chunker::finish(std::vector<uint64_t>& ends) {
  if (size_ > start_) ends.push_back(size_);
  *this = Chunker();
}

}  // namespace pretrained::xet
