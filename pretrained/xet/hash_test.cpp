#include "pretrained/xet/hash.h"

#include <gtest/gtest.h>

#include <unordered_set>

#include "pretrained/xet/blake3.h"
#include "pretrained/xet/testing.h"

namespace {

using namespace pretrained::xet;
using namespace pretrained::xet::testing;

// The rule as the spec has it, a whole level at a time.
Hash root_by_levels(std::vector<ChunkSize> level) {
  const Hash key =
      *Hash::parse_plain("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f");
  while (level.size() > 1) {
    std::vector<ChunkSize> parents;
    for (size_t i = 0; i < level.size();) {
      size_t left = level.size() - i, count = std::min<size_t>(left, 9);
      for (size_t k = 2; left > 2 && k < count; ++k)
        if (level[i + k].hash.last_word() % 4 == 0) count = k + 1;
      std::string text;
      uint64_t size = 0;
      for (size_t k = i; k < i + count; ++k) {
        text += level[k].hash.hex() + " : " + std::to_string(level[k].size) + "\n";
        size += level[k].size;
      }
      parents.push_back({Blake3(key).update(text).finish(), size});
      i += count;
    }
    level = std::move(parents);
  }
  return level.empty() ? Hash{} : level[0].hash;
}

TEST(Hash, TextSwapsTheBytesOfEachWord) {
  Hash hash;
  for (size_t i = 0; i < 32; ++i) hash.bytes[i] = uint8_t(i);
  EXPECT_EQ(hash.hex(), "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918");
  EXPECT_EQ(hash.plain_hex(), "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
  EXPECT_EQ(Hash::parse(hash.hex()), hash);
  EXPECT_EQ(Hash::parse_plain(hash.plain_hex()), hash);
  EXPECT_EQ(Hash::parse("07060504030201000F0E0D0C0B0A090817161514131211101F1E1D1C1B1A1918"), hash);
  EXPECT_EQ(hash.last_word(), 0x1f1e1d1c1b1a1918u);
}

TEST(Hash, ParseTakesNothingElse) {
  std::string good(64, 'a');
  EXPECT_TRUE(Hash::parse(good));
  EXPECT_FALSE(Hash::parse(""));
  EXPECT_FALSE(Hash::parse(good.substr(1)));
  EXPECT_FALSE(Hash::parse(good + "a"));
  for (char bad : {'g', ' ', '\0', '-', '/', ':', '@', 'G', '`', '\x80'}) {
    std::string text = good;
    text[33] = bad;
    EXPECT_FALSE(Hash::parse(text)) << int(bad);
  }
}

TEST(Hash, OrdersAndHashes) {
  Hash a, b;
  b.bytes[0] = 1;
  EXPECT_LT(a, b);
  EXPECT_TRUE(a.is_zero());
  EXPECT_EQ((std::unordered_set<Hash>{a, b, a}).size(), 2u);
}

TEST(Hash, TreesOfEverySize) {
  std::vector<ChunkSize> chunks;
  Merkle tree;
  for (size_t n = 0; n < 700; ++n) {
    if (n < 100 || n % 37 == 0) {
      ASSERT_EQ(tree.root(), root_by_levels(chunks)) << n;
      ASSERT_EQ(xorb_hash(chunks), tree.root());
    }
    chunks.push_back({chunk_hash(std::to_string(n)), n * n * 1000003});
    tree.add(chunks.back().hash, chunks.back().size);
  }
  EXPECT_EQ(tree.count(), 700u);
}

TEST(Hash, GroupsOfNine) {
  // No child ends a group by its hash: every group is full.
  std::vector<ChunkSize> chunks;
  for (size_t i = 0; chunks.size() < 200; ++i)
    if (Hash hash = chunk_hash(std::to_string(i)); hash.last_word() % 4 != 0)
      chunks.push_back({hash, 1});
  EXPECT_EQ(xorb_hash(chunks), root_by_levels(chunks));
  // And where every one could, groups are of three.
  for (size_t i = 0; i < chunks.size(); ++i) chunks[i].hash.bytes[24] &= 0xFC;
  EXPECT_EQ(xorb_hash(chunks), root_by_levels(chunks));
}

TEST(Hash, EmptyAndSingle) {
  EXPECT_TRUE(xorb_hash({}).is_zero());
  EXPECT_TRUE(file_hash({}).is_zero());
  ChunkSize one{chunk_hash("x"), 1};
  EXPECT_EQ(xorb_hash({&one, 1}), one.hash);
  EXPECT_NE(file_hash({&one, 1}), one.hash);
}

TEST(Hash, GlobalDedupIsOneIn1024) {
  Hash hash = chunk_hash("y");
  hash.bytes[24] = 0;
  hash.bytes[25] = 0xFC;
  EXPECT_TRUE(is_global_dedup_eligible(hash));
  hash.bytes[25] = 0xFD;
  EXPECT_FALSE(is_global_dedup_eligible(hash));
}

// Computed by hf_xet 1.8.0 and a reference in Python.
TEST(Hash, Vectors) {
  struct Vector {
    std::string bytes;
    const char *file, *xorb, *range;
  };
  for (auto& vector : std::vector<Vector>{
           {"Hello World!\n", "26bcb87aa2953ba3b5c282d9581ac5572a4c7481399a64c03cdff89242a9b3f2",
            "e11d004e9968f3c8a9179dca907aafe0fc1cbb73f429fe142514db413b6552f6",
            "c3705f8c9bb7e672bdbfdd15f20e16a2e59c4b3668c112799ca991f931da44db"},
           {std::string(1, '\0'),
            "41f5539a8d8bdd7509fd9a319268aca47ea6d40b33394170182e09fa86345c7e",
            "df93298cdbf67cd507aed28d6290c0cf7f9aa0aa88dfa629cffcf98680659410",
            "7be708517ff612a74bdd0d7197e09b38f7d644fff72a547d7f0620cbccac5ea2"},
           {std::string(8191, '\0'),
            "80c25c0cf8afd7a10eabd09184c813addb4328bd727089be2b62a77028848772",
            "461b3d677f5a6e106501096980089da139bbf22ab66ca36345727adcb5e8ad84",
            "a61470146f960847855d72a2eab77d57798a7f5e1be40fefcadbedc41c401c37"},
           {std::string(300000, '\0'),
            "3d7bd4178bc2851ba07d59c24c3a88ae0c7220e9920d6c5c6a06b01556d46404",
            "c2c391c2780688107997606ed6798520928296386f08a43bdf7e28cd1b06b37b",
            "e169d38b9b9fae44721fdd0d6c3a25406ba8346446f87a34224f1730d6172a7f"},
           {random_bytes(1, 100000),
            "0a07d5e0692e3dae54a216c217c2c77024d82f1cb6590783f1f4d841ba4a0d56",
            "307279e9342b0f1b2e9040ca7c7199cd1a6496a1a462f2cfdd3caaac81ebe6eb",
            "0e74d717419aafac1168430e9b5189b0cb266c21a39682a107c4ecd249086681"},
           {random_bytes(1, 1500000),
            "eee801917e70f0c62bccb90a02384c823e76c7b8349238e52964d98cc8a8ed48",
            "7f78858beecab175d2ee2d194c6bf52911dcf124d48023fed5371ccf2ae9e44a",
            "3f972969bdd76842df73567690afaeb4edbdc9ddd669460b34d27184ebac5842"}}) {
    auto sizes = sizes_of(vector.bytes);
    std::vector<Hash> hashes;
    for (auto& chunk : sizes) hashes.push_back(chunk.hash);
    EXPECT_EQ(file_hash(sizes).hex(), vector.file) << vector.bytes.size();
    EXPECT_EQ(xorb_hash(sizes).hex(), vector.xorb);
    EXPECT_EQ(range_hash(hashes).hex(), vector.range);
  }
  EXPECT_EQ(chunk_hash(std::string(131072, '\0')).hex(),
            "2e39f13c248013b27e22913ba2893a654120ed0ad8eb7ecbf3f05b9d708634fc");
}

}  // namespace
