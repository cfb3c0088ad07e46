#include "pretrained/xet/xorb.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pretrained/xet/testing.h"

namespace {

using namespace pretrained::xet;
using namespace pretrained::xet::testing;
using ::testing::HasSubstr;

struct Written {
  std::string bytes;
  XorbTable table;
};

Written xorb_of(std::string_view file) {
  XorbWriter writer;
  for (auto chunk : chunks_of(file)) writer.append(chunk);
  Written out;
  out.table = writer.finish(out.bytes);
  return out;
}

std::string mixed_file() {
  return random_bytes(1, 100000) + std::string(300000, 'z') + random_bytes(2, 30000);
}

std::string record(int version, uint32_t stored, int scheme, uint32_t raw, std::string bytes) {
  std::string out(1, char(version));
  for (int i = 0; i < 3; ++i) out += char(stored >> (8 * i));
  out += char(scheme);
  for (int i = 0; i < 3; ++i) out += char(raw >> (8 * i));
  return out + bytes;
}

std::string verify_error(std::string_view bytes) {
  return error_of([&] {
    XorbVerifier verifier;
    verifier.feed(bytes);
    verifier.finish();
  });
}

TEST(Xorb, RoundTrips) {
  std::string file = mixed_file(), again;
  auto [bytes, table] = xorb_of(file);
  EXPECT_EQ(table.hash, xorb_hash(sizes_of(file)));
  EXPECT_EQ(table.raw_size, file.size());
  EXPECT_EQ(table.end, bytes.size());
  XorbTable parsed = parse_xorb(bytes), verified = verify_xorb(bytes, table.hash);
  EXPECT_EQ(verified.chunks, table.chunks);
  EXPECT_TRUE(parsed.hash.is_zero());
  for (size_t i = 0; i < parsed.chunks.size(); ++i) {
    auto& chunk = parsed.chunks[i];
    again += decode_chunk(bytes, chunk);
    EXPECT_EQ(decode_record(bytes.substr(chunk.offset, chunk.end() - chunk.offset)),
              decode_chunk(bytes, chunk));
    chunk.hash = table.chunks[i].hash;
  }
  EXPECT_EQ(parsed.chunks, table.chunks);
  EXPECT_EQ(again, file);
}

TEST(Xorb, RecordLayout) {
  XorbWriter writer;
  writer.append("abc");
  EXPECT_EQ(writer.bytes(), std::string("\0\3\0\0\0\3\0\0abc", 11));
  EXPECT_EQ(writer.hash(), chunk_hash("abc"));
  auto header = record_header(3, Scheme::none, 3);
  EXPECT_EQ(std::string(header.data(), header.size()) + "abc", writer.bytes());
  EXPECT_NE(error_of([&] { record_header(3, Scheme::lz4, 0); }), "no error");
}

TEST(Xorb, PacksInPlace) {
  std::string file = std::string(200000, 'z') + mixed_file(), bytes;
  for (auto chunk : chunks_of(file)) bytes.append(kRecordHeader, '?').append(chunk);
  pack_in_place(sizes_of(file), bytes);
  EXPECT_TRUE(bytes == xorb_of(file).bytes);
  EXPECT_THAT(error_of([] {
                std::string bytes(20, 'x');
                pack_in_place(std::vector<ChunkSize>{{chunk_hash("a"), 13}}, bytes);
              }),
              HasSubstr("missing"));
}

TEST(Xorb, VerifierTakesAnyPieces) {
  auto [bytes, table] = xorb_of(mixed_file());
  for (size_t step : {1, 3, 7, 8, 9, 1000, 65536}) {
    XorbVerifier verifier;
    for (size_t at = 0; at < bytes.size(); at += step)
      verifier.feed(std::string_view(bytes).substr(at, step));
    EXPECT_EQ(verifier.finish(table.hash).chunks, table.chunks) << step;
  }
}

TEST(Xorb, FooterIsSkipped) {
  auto [bytes, table] = xorb_of(mixed_file());
  std::string with = bytes + "XETBLOB\1" + std::string(5000, '\7');
  EXPECT_EQ(parse_xorb(with).end, bytes.size());
  EXPECT_EQ(verify_xorb(with, table.hash).end, bytes.size());
  EXPECT_EQ(parse_xorb(bytes + "XETBLOB").end, bytes.size());
  EXPECT_EQ(verify_xorb(bytes + "XETBLOB", table.hash).end, bytes.size());
  XorbVerifier verifier;
  for (char byte : with) verifier.feed({&byte, 1});
  EXPECT_EQ(verifier.finish(table.hash).chunks, table.chunks);
  EXPECT_THAT(verify_error("XETBLOB\1"), HasSubstr("no chunks"));
}

TEST(Xorb, EveryTruncationIsSeen) {
  std::string bytes =
      xorb_of("small").bytes + xorb_of(std::string(9000, 'q')).bytes + xorb_of("end").bytes;
  auto table = parse_xorb(bytes);
  for (size_t size = 0; size < bytes.size(); ++size) {
    bool whole = false;
    for (auto& chunk : table.chunks) whole = whole || chunk.end() == size;
    std::string_view part = std::string_view(bytes).substr(0, size);
    EXPECT_EQ(error_of([&] { parse_xorb(part); }) == "no error", whole) << size;
    EXPECT_EQ(verify_error(part) == "no error", whole) << size;
    // Whole records, but not the xorb that was named.
    EXPECT_NE(error_of([&] { verify_xorb(part, chunk_hash("x")); }), "no error");
  }
}

TEST(Xorb, RefusesHostileRecords) {
  struct Case {
    std::string bytes;
    const char* text;
  };
  std::string bomb = compress(std::string(1 << 20, '\0'), Scheme::lz4);
  for (auto& attack : std::vector<Case>{
           {"", "no chunks"},
           {record(1, 3, 0, 3, "abc"), "version 1, expected 0"},
           {record(0, 3, 3, 3, "abc"), "unknown compression scheme 3"},
           {record(0, 3, 99, 3, "abc"), "unknown compression scheme 99"},
           {record(0, 0, 0, 0, ""), "0 stored for 0 bytes"},
           {record(0, 3, 0, 4, "abc"), "3 stored for 4 bytes with scheme none"},
           {record(0, 0, 1, 4, "") + record(0, 1, 0, 1, "a"), "LZ4 frame: truncated"},
           {record(0, 4, 0, 4, "abc"), "truncated"},
           {record(0, 0xFFFFFF, 1, 131072, "abc"), "16777215 stored for 131072 bytes"},
           {record(0, 100, 1, 0xFFFFFF, std::string(100, 'a')), "expected 1 … 1048576"},
           {record(0, uint32_t(bomb.size()), 1, 100000, bomb), "holds more than the 100000 bytes"},
           {record(0, 100, 1, 1000, std::string(100, 'a')), "chunk 0 at byte 0: LZ4 frame"},
           {record(0, 1, 0, 1, "a") + "XETBLO", "truncated"},
           {record(0, 1, 0, 1, "a") + "XETBLOP_", "chunk 1 at byte 9: version 88"}}) {
    EXPECT_THAT(verify_error(attack.bytes), HasSubstr(attack.text));
  }
}

TEST(Xorb, Limits) {
  std::string many;
  for (size_t i = 0; i < kMaxXorbChunks; ++i) many += record(0, 1, 0, 1, "a");
  EXPECT_EQ(verify_error(many), "no error");
  many += record(0, 1, 0, 1, "a");
  EXPECT_THAT(verify_error(many), HasSubstr("at most 8192"));
  EXPECT_THAT(error_of([&] { parse_xorb(many); }), HasSubstr("at most 8192"));
  // Bombs that are each allowed, 1 GiB of them.
  std::string raw(1 << 20, '\0'), packed = compress(raw, Scheme::lz4), bombs;
  for (size_t i = 0; i <= 1024; ++i)
    bombs += record(0, uint32_t(packed.size()), 1, 1 << 20, packed);
  EXPECT_THAT(error_of([&] { parse_xorb(bombs); }), HasSubstr("more than 1073741824 bytes"));
  std::string large(kMaxXorbUpload + 1, 'a');
  EXPECT_THAT(verify_error(large), HasSubstr("at most 71303168"));
}

TEST(Xorb, WrongRoot) {
  auto [bytes, table] = xorb_of(mixed_file());
  EXPECT_THAT(error_of([&] { verify_xorb(bytes, chunk_hash("other")); }),
              HasSubstr("expected " + chunk_hash("other").hex()));
  bytes[50] ^= 1;
  EXPECT_THAT(error_of([&] { verify_xorb(bytes, table.hash); }), HasSubstr("give the hash"));
}

TEST(Xorb, DecodeStaysInside) {
  auto [bytes, table] = xorb_of(mixed_file());
  ChunkRecord chunk = table.chunks.back();
  EXPECT_NE(error_of([&] { decode_chunk(bytes.substr(0, bytes.size() - 1), chunk); }), "no error");
  chunk.offset = ~uint64_t(0) - 4;
  EXPECT_NE(error_of([&] { decode_chunk(bytes, chunk); }), "no error");
  EXPECT_NE(error_of([&] { decode_record(bytes); }), "no error");
}

TEST(Xorb, WriterKnowsWhenItIsFull) {
  XorbWriter writer;
  std::string chunk = random_bytes(4, kMaxChunk);
  Hash hash = chunk_hash(chunk);
  size_t count = 0;
  for (; writer.fits(chunk.size()); ++count) writer.append(chunk, Scheme::none, chunk.size(), hash);
  EXPECT_EQ(count, 511u);  // 512 would fill 64 MiB without the headers
  EXPECT_LE(writer.bytes().size(), kMaxXorb);
  EXPECT_THAT(error_of([&] { writer.append(chunk, Scheme::none, chunk.size(), hash); }),
              HasSubstr("does not fit"));
  std::string bytes;
  Hash root = writer.finish(bytes).hash;
  EXPECT_TRUE(writer.empty());
  EXPECT_EQ(verify_xorb(bytes, root).chunks.size(), count);
  EXPECT_NE(error_of([&] { writer.append(""); }), "no error");
  EXPECT_NE(error_of([&] { writer.append(std::string(kMaxChunk + 1, 'a')); }), "no error");
  EXPECT_NE(error_of([&] { writer.append("abc", Scheme::none, 4, hash); }), "no error");
  for (size_t i = 0; i < kMaxXorbChunks; ++i) writer.append("a", hash);
  EXPECT_FALSE(writer.fits(1));
}

}  // namespace
