#include "pretrained/xet/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pretrained/xet/testing.h"

namespace {

using namespace pretrained::xet;
using namespace pretrained::xet::testing;
using ::testing::HasSubstr;

constexpr auto kSha = "03ba204e50d126e4674c005e04d82e84c21366780af1f43bd54a37816b6ab340";

Hash hash_of(const std::string& name) { return chunk_hash(name); }

Shard sample() {
  Shard shard;
  shard.files.push_back(
      {hash_of("f1"),
       {{hash_of("x1"), 30, 0, 2, hash_of("r1")}, {hash_of("x2"), 5, 7, 8, hash_of("r2")}},
       true,
       kSha});
  shard.files.push_back({hash_of("f2"), {{hash_of("x1"), 10, 0, 1, {}}}, false, {}});
  shard.files.push_back({{}, {}, true, {}});
  shard.xorbs.push_back(
      {hash_of("x1"), {{hash_of("c1"), 0, 10, true}, {hash_of("c2"), 10, 20, false}}, 41});
  return shard;
}

void set(std::string& bytes, size_t at, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) bytes[at + size_t(i)] = char(value >> (8 * i));
}

std::string parse_error(const std::string& bytes) {
  return error_of([&] { parse_shard(bytes); });
}

TEST(Shard, RoundTrips) {
  Shard shard = sample();
  std::string bytes = serialize_shard(shard);
  EXPECT_EQ(bytes.size(), 48u * (1 + 6 + 2 + 1 + 1 + 3 + 1));
  Shard again = parse_shard(bytes);
  EXPECT_EQ(again.files, shard.files);
  EXPECT_EQ(again.xorbs, shard.xorbs);
  EXPECT_FALSE(again.footer);
  EXPECT_EQ(again.files[0].size(), 35u);
  EXPECT_EQ(again.xorbs[0].size(), 30u);
  EXPECT_EQ(parse_shard(serialize_shard({})).files.size(), 0u);
}

TEST(Shard, ShaIsStoredSwapped) {
  std::string bytes = serialize_shard(sample());
  size_t at = 48 * 6;  // header, file, 2 terms, 2 range hashes
  EXPECT_EQ(Hash::from_bytes(bytes.data() + at).hex(), kSha);
  EXPECT_EQ(bytes.substr(at, 8), "\xe4\x26\xd1\x50\x4e\x20\xba\x03");
  Shard bad = sample();
  bad.files[0].sha256 = "abc";
  EXPECT_THAT(error_of([&] { serialize_shard(bad); }), HasSubstr("'abc' is not 64 digits"));
}

TEST(Shard, DedupAnswer) {
  Shard shard = sample();
  shard.files.clear();
  ShardFooter footer{hash_of("key"), 1000, 2000};
  std::string bytes = serialize_dedup_shard(shard, footer);
  Shard again = parse_shard(bytes);
  EXPECT_EQ(again.footer, footer);
  EXPECT_EQ(again.xorbs[0].hash, shard.xorbs[0].hash);
  EXPECT_EQ(again.xorbs[0].chunks[0].hash, keyed_hash(hash_of("c1"), footer.key));
  EXPECT_NE(again.xorbs[0].chunks[0].hash, hash_of("c1"));
  // The lookup tables are empty and lie where the footer begins: zeros abort hf_xet.
  size_t begin = bytes.size() - 200;
  for (size_t table = 0; table < 3; ++table) {
    std::string wanted(16, '\0');
    set(wanted, 0, begin, 8);
    EXPECT_EQ(bytes.substr(begin + 24 + 16 * table, 16), wanted);
  }
  std::string last(8, '\0');
  set(last, 0, begin, 8);
  EXPECT_EQ(bytes.substr(bytes.size() - 8), last);
  EXPECT_EQ(uint64_t(static_cast<unsigned char>(bytes[40])), 200u);

  // Without a key the hashes are plain.
  again = parse_shard(serialize_dedup_shard(shard, {}));
  EXPECT_EQ(again.xorbs, shard.xorbs);
  EXPECT_EQ(again.footer->expires, ~uint64_t(0));
}

TEST(Shard, ReadsFootersOfOthers) {
  // As the JavaScript client uploads: the tables' words are zero. As hf_xet caches: tables between.
  std::string bytes = serialize_dedup_shard(sample(), {});
  size_t begin = bytes.size() - 200;
  for (size_t i = 24; i < 72; ++i) bytes[begin + i] = 0;
  EXPECT_EQ(parse_shard(bytes).files, sample().files);
  bytes.insert(begin, std::string(60, '\5'));
  set(bytes, bytes.size() - 8, begin + 60, 8);
  EXPECT_EQ(parse_shard(bytes).xorbs, sample().xorbs);
}

TEST(Shard, EveryTruncationIsSeen) {
  for (auto& bytes : {serialize_shard(sample()), serialize_dedup_shard(sample(), {})})
    for (size_t size = 0; size < bytes.size(); ++size)
      EXPECT_NE(parse_error(bytes.substr(0, size)), "no error") << size;
}

TEST(Shard, RefusesHostileNumbers) {
  const std::string good = serialize_shard(sample());
  const size_t file = 48, term = 96, xorb = 48 * 11, chunk = xorb + 48;
  struct Case {
    size_t at;
    uint64_t value;
    int size;
    const char* text;
  };
  for (auto& attack :
       std::vector<Case>{{0, 'h', 1, "does not start with the tag"},
                         {32, 1, 8, "version 1, expected 2"},
                         {40, 201, 8, "a footer of 201 bytes"},
                         {40, ~uint64_t(0), 8, "a footer of"},
                         {file + 32, 1u << 29, 4, "unknown file flags"},
                         {file + 36, 0xFFFFFFFF, 4, "it is truncated"},
                         {file + 36, 0x80000000, 4, "it is truncated"},
                         {file + 36, 1000, 4, "2001 entries of a file"},
                         {term + 40, 2, 4, "a term of 30 bytes, chunks 2 … 2"},
                         {term + 40, 0xFFFFFFFF, 4, "chunks 4294967295 … 2"},
                         {term + 36, 0, 4, "a term of 0 bytes"},
                         {xorb + 36, 0xFFFFFFFF, 4, "4294967295 chunks of a xorb"},
                         {xorb + 40, 31, 4, "have 30 bytes, it says 31"},
                         {chunk + 32, 1, 4, "begins at 1, expected 0"},
                         {chunk + 48 + 32, 9, 4, "begins at 9, expected 10"},  // overlap
                         {chunk + 36, 0, 4, "a chunk of 0 bytes"},
                         {chunk + 36, 0xFFFFFFFF, 4, "begins at 10, expected 4294967295"}}) {
    std::string bytes = good;
    set(bytes, attack.at, attack.value, attack.size);
    EXPECT_THAT(parse_error(bytes), HasSubstr(attack.text));
  }
  EXPECT_THAT(parse_error(good + "x"), HasSubstr("bytes follow the end"));
  EXPECT_THAT(parse_error(std::string(kMaxShard + 1, 'x')), HasSubstr("are taken"));
}

TEST(Shard, RefusesWrongFooters) {
  const std::string good = serialize_dedup_shard(sample(), {});
  size_t begin = good.size() - 200;
  for (auto [at, text] :
       std::vector<std::pair<size_t, const char*>>{{begin, "footer version"},
                                                   {begin + 8, "offsets"},
                                                   {begin + 16, "offsets"},
                                                   {good.size() - 8, "offsets"}}) {
    std::string bytes = good;
    bytes[at] ^= 0x10;
    EXPECT_THAT(parse_error(bytes), HasSubstr(text));
  }
  std::string claimed = serialize_shard(sample());  // says that there is one, and there is none
  set(claimed, 40, 200, 8);
  EXPECT_THAT(parse_error(claimed), HasSubstr("bytes of footer"));
}

}  // namespace
