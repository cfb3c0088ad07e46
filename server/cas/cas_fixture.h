#pragma once
// A content store in a temporary folder, and a client of it as hf_xet is one.

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "pretrained/base/sha256.h"
#include "pretrained/xet/chunker.h"
#include "pretrained/xet/shard.h"
#include "pretrained/xet/xorb.h"
#include "server/cas/content_store.h"

namespace pretrained::server::testing {
namespace fs = std::filesystem;
using namespace std::chrono_literals;

inline std::string random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (size_t i = 0; i < size; i += 8) {
    uint64_t word = random();
    std::memcpy(out.data() + i, &word, std::min<size_t>(8, size - i));
  }
  return out;
}

// Weights as networks have them: normal with a small deviation.
inline std::string float_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<float> values(size / 4);
  for (auto& value : values) value = normal(random);
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4);
}

// Gives `bytes` in pieces of odd sizes, as sockets do.
inline std::function<size_t(char*, size_t)> reader(std::string_view bytes, size_t piece = 40009) {
  return [bytes, piece](char* out, size_t size) mutable {
    size_t got = std::min({size, piece, bytes.size()});
    std::memcpy(out, bytes.data(), got);
    bytes.remove_prefix(got);
    return got;
  };
}

struct Hub {
  explicit Hub(const fs::path& folder, std::chrono::seconds lease = 3600s)
      : database(folder / "hub.db"), blobs(folder, 0), content(database, blobs, lease) {}
  Database database;
  BlobStore blobs;
  ContentStore content;

  int64_t add_repo(const std::string& name) {
    return database.write([&](Transaction& t) {
      t.run(
          "INSERT OR IGNORE INTO accounts (id, kind, name, created_at) VALUES (1, 'user', 'u', 0)");
      t.run(
          "INSERT INTO repos (uid, type, owner, name, created_at, updated_at) "
          "VALUES (?, 'model', 1, ?, 0, 0)",
          random_hex(24), name);
      return t.last_id();
    });
  }
  int64_t count(const std::string& table) {
    return database.read(
        [&](Transaction& t) { return t.one("SELECT count(*) FROM " + table)->integer(0); });
  }
  uint64_t stored() {  // bytes of all xorb blobs on the disk
    uint64_t total = 0;
    blobs.each("xorbs", [&](const std::string&, uint64_t size) { total += size; });
    return total;
  }
  size_t temporary_files() {
    size_t found = 0;
    for (auto& entry : fs::recursive_directory_iterator(blobs.folder() / "tmp"))
      found += entry.is_regular_file();
    return found;
  }
  void commit(int64_t repo, const std::string& sha256) {
    database.write([&](Transaction& t) { content.commit_objects(t, repo, {sha256}); });
  }
  void expire() {  // as if a day had passed
    database.write([](Transaction& t) {
      for (auto* table : {"xorbs", "xorb_access", "files", "repo_objects"})
        t.run("UPDATE " + std::string(table) + " SET lease_until = 1");
    });
  }
  ContentObject put(int64_t repo, const std::string& bytes) {
    return content.put_object(repo, sha256_hex(bytes), bytes.size(), reader(bytes));
  }
  std::string get(const ContentObject& object) {
    return content.read_bytes(object, 0, object.size);
  }
};

// One file cut and packed as a client does it.
struct XetFile {
  explicit XetFile(const std::string& bytes) {
    xet::Chunker chunker;
    std::vector<uint64_t> ends;
    chunker.feed(bytes, ends);
    chunker.finish(ends);
    xet::XorbWriter writer;
    uint64_t begin = 0;
    for (uint64_t end : ends) {
      std::string_view chunk(bytes.data() + begin, end - begin);
      if (!writer.fits(chunk.size())) close(writer);
      writer.append(chunk);
      chunks.push_back({xet::chunk_hash(chunk), chunk.size()});
      begin = end;
    }
    if (!writer.empty()) close(writer);
    file.hash = xet::file_hash(chunks);
    file.has_verification = true;
    file.sha256 = sha256_hex(bytes);
  }
  void close(xet::XorbWriter& writer) {
    std::string packed;
    auto table = writer.finish(packed);
    std::vector<xet::Hash> hashes;
    for (auto& chunk : table.chunks) hashes.push_back(chunk.hash);
    file.terms.push_back({table.hash, uint32_t(table.raw_size), 0, uint32_t(hashes.size()),
                          xet::range_hash(hashes)});
    xorbs.emplace_back(table.hash, std::move(packed));
  }
  std::string shard() const { return xet::serialize_shard({.files = {file}}); }

  std::vector<std::pair<xet::Hash, std::string>> xorbs;
  std::vector<xet::ChunkSize> chunks;
  xet::ShardFile file;
};

class CasTest : public ::testing::Test {
 protected:
  CasTest() {
    std::string name = (fs::temp_directory_path() / "cas-XXXXXX").string();
    folder = mkdtemp(name.data());
  }
  ~CasTest() override { fs::remove_all(folder); }
  // Uploads as hf_xet does.
  static bool put_xet(Hub& hub, int64_t repo, const XetFile& file,
                      const std::function<bool(int64_t)>& readable = {}) {
    for (auto& [hash, bytes] : file.xorbs) hub.content.put_xorb(repo, hash, reader(bytes));
    return hub.content.put_shard(repo, file.shard(), {}, readable);
  }
  static void expect_clean(Hub& hub) {
    EXPECT_EQ(hub.content.fsck(true, {}), std::vector<std::string>());
  }
  // Nothing that a refused upload could have left.
  static void expect_empty(Hub& hub) {
    for (auto* table :
         {"xorbs", "xorb_access", "dedup_chunks", "files", "file_xorbs", "objects", "repo_objects"})
      EXPECT_EQ(hub.count(table), 0) << table;
    EXPECT_EQ(hub.stored(), 0U);
    EXPECT_EQ(hub.temporary_files(), 0U);
  }
  fs::path folder;
};

constexpr auto everybody = [](int64_t) { return true; };
constexpr auto nobody = [](int64_t) { return false; };

}  // namespace pretrained::server::testing
