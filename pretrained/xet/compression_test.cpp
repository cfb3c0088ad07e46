#include "pretrained/xet/compression.h"

#include <gtest/gtest.h>
#include <lz4frame.h>

#include <cmath>
#include <cstring>

#include "pretrained/xet/testing.h"

namespace {

using namespace pretrained::xet;
using namespace pretrained::xet::testing;

std::string floats(size_t count) {
  std::string out(count * 4, '\0');
  std::string noise = random_bytes(11, count * 4);
  for (size_t i = 0; i < count; ++i) {
    float value = 0.01f * float(static_cast<unsigned char>(noise[4 * i])) + 1;
    std::memcpy(out.data() + 4 * i, &value, 4);
    out[4 * i] = noise[4 * i + 1];
  }
  return out;
}

std::string frame(const std::string& raw, LZ4F_preferences_t preferences = {}) {
  std::string out(LZ4F_compressFrameBound(raw.size(), &preferences), '\0');
  out.resize(LZ4F_compressFrame(out.data(), out.size(), raw.data(), raw.size(), &preferences));
  return out;
}

TEST(Compression, RoundTrips) {
  for (size_t size : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 1023, 8192, 65537, 131072, 1 << 20})
    for (auto& raw : {std::string(size, 'a'), random_bytes(2, size), floats(size).substr(0, size)})
      for (Scheme scheme : {Scheme::none, Scheme::lz4, Scheme::bg4_lz4})
        ASSERT_TRUE(decompress(compress(raw, scheme), scheme, size) == raw)
            << size << scheme_name(scheme);
}

TEST(Compression, TakesTheShortest) {
  auto chosen = [](const std::string& raw) {
    std::string stored;
    Scheme scheme = compress(raw, stored);
    Compressed packed = compress(raw);
    EXPECT_EQ(packed.scheme, scheme);
    EXPECT_EQ(packed.bytes, scheme == Scheme::none ? raw : stored);
    EXPECT_EQ(decompress(packed.bytes, scheme, raw.size()), raw);
    return scheme;
  };
  EXPECT_EQ(chosen(floats(20000)), Scheme::bg4_lz4);
  EXPECT_EQ(chosen(random_bytes(1, 80000)), Scheme::none);
  std::string text;
  while (text.size() < 60000) text += "line " + std::to_string(text.size()) + " of a text file\n";
  EXPECT_EQ(chosen(text), Scheme::lz4);
  EXPECT_EQ(chosen(""), Scheme::none);
  // Wherever an eighth of it can be packed.
  for (size_t at : {0, 30000, 70000, 110000}) {
    std::string noise = random_bytes(1, 131072);
    noise.replace(at, 20000, 20000, 'a');
    EXPECT_NE(chosen(noise), Scheme::none) << at;
  }
  // A gain of nothing to speak of is not worth the time of every reader.
  EXPECT_EQ(chosen(random_bytes(1, 80000) + std::string(1500, 'a')), Scheme::none);
}

TEST(Compression, GroupsBytesAsTheSpecHasIt) {
  std::string split = decompress(compress("0123456789abc", Scheme::bg4_lz4), Scheme::lz4, 13);
  EXPECT_EQ(split,
            "048c"
            "159"
            "26a"
            "37b");
}

TEST(Compression, ReadsWhatOtherWritersWrite) {
  std::string raw = floats(30000);
  LZ4F_preferences_t preferences{};
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;  // linked blocks, checksums and a size
  preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
  preferences.frameInfo.blockChecksumFlag = LZ4F_blockChecksumEnabled;
  preferences.frameInfo.contentSize = raw.size();
  EXPECT_EQ(decompress(frame(raw, preferences), Scheme::lz4, raw.size()), raw);
}

TEST(Compression, RefusesDamage) {
  std::string raw = floats(3000), stored = frame(raw);
  auto error = [&](const std::string& bytes, size_t size) {
    return error_of([&] { decompress(bytes, Scheme::lz4, size); });
  };
  EXPECT_EQ(error(stored, raw.size()), "no error");
  EXPECT_NE(error(stored, raw.size() + 1).find("holds 12000 bytes, expected 12001"),
            std::string::npos);
  EXPECT_NE(error(stored + "x", raw.size()).find("1 bytes follow its end"), std::string::npos);
  EXPECT_NE(error(stored + stored, raw.size()).find("follow its end"), std::string::npos);
  EXPECT_NE(error("", raw.size()), "no error");
  EXPECT_NE(error(random_bytes(1, 500), raw.size()), "no error");
  for (size_t size = 0; size < stored.size(); size += size < 64 ? 1 : 97)
    EXPECT_NE(error(stored.substr(0, size), raw.size()), "no error") << size;
  EXPECT_NE(error_of([&] { decompress("abc", Scheme::none, 4); }), "no error");
  EXPECT_NE(error_of([&] { decompress("abc", Scheme(3), 3); }), "no error");
  // A skippable frame is none.
  EXPECT_NE(error(std::string("\x50\x2a\x4d\x18\x04\0\0\0abcd", 12), 4), "no error");
}

TEST(Compression, BombsStopAtTheExpectedSize) {
  std::string bomb = frame(std::string(64 << 20, '\0'));
  ASSERT_LT(bomb.size(), size_t(1) << 20);
  for (size_t size : {0, 1, 1000, 131072, 1 << 20})
    EXPECT_NE(error_of([&] { decompress(bomb, Scheme::lz4, size); }).find("LZ4 frame"),
              std::string::npos);
  // The size that a frame claims is not believed either.
  LZ4F_preferences_t preferences{};
  preferences.frameInfo.contentSize = 3;
  std::string lie = frame("abc", preferences);
  lie[6 + 5] = '\x7f';
  EXPECT_NE(error_of([&] { decompress(lie, Scheme::lz4, 3); }), "no error");
}

}  // namespace
