#include "pretrained/xet/chunker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pretrained/xet/gear_table.h"
#include "pretrained/xet/testing.h"

namespace {

using namespace pretrained::xet;
using namespace pretrained::xet::testing;

// The rule of the spec, byte by byte.
std::vector<uint64_t> naive_ends(std::string_view bytes) {
  std::vector<uint64_t> ends;
  uint64_t h = 0, begin = 0;
  for (uint64_t i = 0; i < bytes.size(); ++i) {
    h = (h << 1) + kGear[static_cast<unsigned char>(bytes[i])];
    uint64_t size = i + 1 - begin;
    if ((size >= kMinChunk && (h & 0xFFFF000000000000) == 0) || size == kMaxChunk) {
      ends.push_back(i + 1);
      begin = i + 1;
      h = 0;
    }
  }
  if (begin < bytes.size()) ends.push_back(bytes.size());
  return ends;
}

TEST(Chunker, Vector) {
  std::vector<uint64_t> lengths;
  uint64_t begin = 0;
  for (uint64_t end : ends_of(random_bytes(1, 1500000)))
    lengths.push_back(end - std::exchange(begin, end));
  EXPECT_THAT(lengths,
              ::testing::ElementsAre(40949, 20440, 131072, 15663, 34537, 101111, 70172, 74859,
                                     89931, 36147, 16221, 11517, 62409, 16600, 74206, 47280, 72016,
                                     131072, 131072, 76936, 131072, 21112, 28889, 62369, 2348));
}

TEST(Chunker, EdgeSizes) {
  for (size_t size : {0, 1, 63, 64, 65, 8127, 8128, 8191, 8192, 8193, 131071, 131072, 131073,
                      262143, 262144, 262145})
    for (auto& bytes : {std::string(size, '\0'), random_bytes(3, size), std::string(size, '\xff')})
      EXPECT_EQ(ends_of(bytes), naive_ends(bytes)) << size;
}

TEST(Chunker, AnyBlockSizeGivesTheSameCuts) {
  std::string bytes = random_bytes(7, 700001);
  auto wanted = naive_ends(bytes);
  for (size_t step : {1, 7, 63, 64, 65, 1000, 2047, 2048, 4096, 8128, 16384, 65536, 131072, 300000})
    EXPECT_EQ(ends_of(bytes, step), wanted) << step;
}

TEST(Chunker, RandomFiles) {
  for (uint64_t seed = 1; seed < 40; ++seed) {
    std::string bytes = random_bytes(seed, 1000 + seed * 25013);
    ASSERT_EQ(ends_of(bytes), naive_ends(bytes)) << seed;
    ASSERT_EQ(ends_of(bytes, 5000 + seed * 997), naive_ends(bytes)) << seed;
  }
}

// 20 of the 256 entries have 16 zero bits at the top, so that some clients cut right after they
// skipped to just below the minimum. We may not.
TEST(Chunker, NothingEndsBelowTheMinimum) {
  std::string bytes = random_bytes(9, 600000);
  int small = 0;
  for (int byte = 0; byte < 256; ++byte) small += kGear[byte] < uint64_t(1) << 48;
  for (int byte = 0; byte < 256; ++byte) {
    if (kGear[byte] >= uint64_t(1) << 48) continue;
    for (size_t at = 8100; at < 8260; ++at) bytes[at] = char(byte);
    ASSERT_EQ(ends_of(bytes), naive_ends(bytes)) << byte;
    ASSERT_GE(ends_of(bytes)[0], kMinChunk);
  }
  EXPECT_EQ(small, 20);
}

// Every repeated byte: for some of them each position is a possible end.
TEST(Chunker, ConstantBytes) {
  for (int byte = 0; byte < 256; ++byte) {
    std::string bytes(150000, char(byte));
    ASSERT_EQ(ends_of(bytes), naive_ends(bytes)) << byte;
    ASSERT_EQ(ends_of(bytes, 40000), naive_ends(bytes)) << byte;
  }
}

// Each 64-byte window is one that ends a chunk: candidates everywhere, and no memory is eaten.
TEST(Chunker, ManyPossibleEnds) {
  std::string random = random_bytes(1, 1500000), pattern, bytes;
  for (uint64_t end : naive_ends(random))
    if (end >= 64 && end < random.size()) pattern += random.substr(end - 64, 64);
  while (bytes.size() < 2000000) bytes += pattern;
  EXPECT_EQ(ends_of(bytes), naive_ends(bytes));
  EXPECT_EQ(ends_of(bytes, 10007), naive_ends(bytes));
}

TEST(Chunker, StartsAnewAfterFinish) {
  std::string bytes = random_bytes(5, 300000);
  Chunker chunker;
  std::vector<uint64_t> first, second;
  chunker.feed(bytes, first);
  chunker.finish(first);
  EXPECT_EQ(chunker.size(), 0u);
  chunker.feed(bytes, second);
  chunker.finish(second);
  EXPECT_EQ(first, second);
}

}  // namespace
