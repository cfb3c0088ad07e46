#include "server/cas/store.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace pretrained::server {
namespace {

constexpr size_t kTermBytes = 76;
constexpr int64_t kClientMemory =
    int64_t{22} * 24 * 3600 * 1000;  // hf_xet's three weeks, and a day
constexpr size_t kMaxHolders = 1024, kMaxCoveringFiles = 1024;

void put_number(std::string& out, uint32_t number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

uint32_t get_number(const char* bytes) {
  uint32_t number;
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

void put_hash(std::string& out, const Hash& hash) {
  out.append(reinterpret_cast<const char*>(hash.bytes.data()), hash.bytes.size());
}

}  // namespace

Hash to_hash(const std::string& bytes) {
  if (bytes.size() != 32)
    throw Error("the database holds a hash of " + std::to_string(bytes.size()) +
                " bytes, expected 32");
  return Hash::from_bytes(bytes.data());
}

Hash parse_sha256(const std::string& hex) {
  auto hash = Hash::parse_plain(hex);
  if (!hash) throw FormatError("SHA-256 '" + printable(hex, 80) + "': expected 64 hex digits");
  return *hash;
}

// Tables
// --------------------------------------------------------------------------------------------

std::string ChunkTable::encode(const xet::XorbTable& xorb) {
  std::string out;
  out.reserve(xorb.chunks.size() * kEntry);
  for (auto& chunk : xorb.chunks) {
    put_hash(out, chunk.hash);
    put_number(out, uint32_t(chunk.offset));
    put_number(out, chunk.size);
  }
  return out;
}

ChunkTable::ChunkTable(std::string bytes, uint64_t end) : bytes_(std::move(bytes)), end_(end) {
  bool good =
      bytes_.size() % kEntry == 0 && size() <= xet::kMaxXorbChunks && end <= xet::kMaxXorbUpload;
  for (size_t i = 0; good && i < size(); ++i)
    good = begin(i) + xet::kRecordHeader < this->end(i) && raw_size(i) <= xet::kMaxRawChunk;
  if (!good) throw DamagedContent("the database holds a damaged chunk table");
}

uint32_t ChunkTable::number(size_t chunk, size_t at) const {
  return get_number(bytes_.data() + chunk * kEntry + at);
}

std::string encode_terms(const std::vector<FileTerm>& terms) {
  std::string out;
  out.reserve(terms.size() * kTermBytes);
  for (auto& term : terms) {
    put_hash(out, term.xorb);
    put_number(out, term.chunk_begin);
    put_number(out, term.chunk_end);
    put_number(out, term.size);
    put_hash(out, term.range_hash);
  }
  return out;
}

std::vector<FileTerm> decode_terms(const std::string& bytes) {
  if (bytes.size() % kTermBytes != 0)
    throw DamagedContent("the database holds a damaged list of terms");
  std::vector<FileTerm> terms(bytes.size() / kTermBytes);
  const char* at = bytes.data();
  for (auto& term : terms) {
    term.xorb = Hash::from_bytes(at);
    term.chunk_begin = get_number(at + 32);
    term.chunk_end = get_number(at + 36);
    term.size = get_number(at + 40);
    term.range_hash = Hash::from_bytes(at + 44);
    at += kTermBytes;
  }
  return terms;
}

// Rows
// ----------------------------------------------------------------------------------------------

bool Store::add_xorb(Transaction& t, int64_t repo, const xet::XorbTable& xorb,
                     const std::string& blob) {
  bool fresh = !renew_xorb(t, xorb.hash);
  if (fresh) {
    // In the place of a damaged one, with the same chunks, perhaps packed differently.
    t.run("INSERT OR IGNORE INTO dropped_blobs SELECT blob FROM xorbs WHERE hash = ?",
          to_bytes(xorb.hash));
    t.run(
        "INSERT INTO xorbs (hash, blob, bytes, raw_bytes, chunks, chunk_table, lease_until) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET damaged = 0, "
        "blob = excluded.blob, bytes = excluded.bytes, raw_bytes = excluded.raw_bytes, "
        "chunks = excluded.chunks, chunk_table = excluded.chunk_table, "
        "lease_until = max(lease_until, excluded.lease_until)",
        to_bytes(xorb.hash), blob, xorb.end, xorb.raw_size, xorb.chunks.size(),
        Bytes{ChunkTable::encode(xorb)}, lease_until());
    for (size_t i = 0; i < xorb.chunks.size(); ++i)
      if (i == 0 || xet::is_global_dedup_eligible(xorb.chunks[i].hash))
        t.run("INSERT OR IGNORE INTO dedup_chunks (chunk, xorb) VALUES (?, ?)",
              to_bytes(xorb.chunks[i].hash), to_bytes(xorb.hash));
  }
  grant_xorb(t, repo, xorb.hash);
  return fresh;
}

bool Store::renew_xorb(Transaction& t, const Hash& xorb) {
  return t.run("UPDATE xorbs SET lease_until = max(lease_until, ?) WHERE hash = ? AND damaged = 0",
               lease_until(), to_bytes(xorb)) > 0;
}

void Store::remember_uploader(Transaction& t, const Hash& xorb, std::optional<int64_t> user) {
  if (!user) return;
  t.run(
      "INSERT INTO xorb_uploaders (xorb, user, remembered_until) VALUES (?, ?, ?) ON CONFLICT DO "
      "UPDATE SET remembered_until = excluded.remembered_until",
      to_bytes(xorb), *user, now_ms() + kClientMemory);
}

void Store::grant_xorb(Transaction& t, int64_t repo, const Hash& xorb) {
  t.run(
      "INSERT INTO xorb_access (xorb, repo, lease_until) VALUES (?, ?, ?) ON CONFLICT (xorb, repo) "
      "DO UPDATE SET lease_until = max(lease_until, excluded.lease_until)",
      to_bytes(xorb), repo, lease_until());
}

bool Store::add_file(Transaction& t, const FileRow& file, const Hash& first_chunk) {
  Bytes hash = to_bytes(file.hash), sha256 = to_bytes(file.sha256);
  bool fresh = t.run("UPDATE files SET lease_until = max(lease_until, ?) WHERE hash = ?",
                     lease_until(), hash) == 0;
  bool repaired = !fresh && is_damaged(t, file.hash);
  if (repaired) {
    t.run("UPDATE files SET terms = ? WHERE hash = ?", Bytes{encode_terms(file.terms)}, hash);
    t.run("DELETE FROM file_xorbs WHERE file = ?", hash);
  } else if (fresh) {
    t.run("INSERT INTO files (hash, size, sha256, terms, lease_until) VALUES (?, ?, ?, ?, ?)", hash,
          file.size, sha256, Bytes{encode_terms(file.terms)}, lease_until());
  }
  if (fresh || repaired) {
    std::set<Hash> used;
    for (auto& term : file.terms)
      if (used.insert(term.xorb).second)
        t.run("INSERT INTO file_xorbs (file, xorb) VALUES (?, ?)", hash, to_bytes(term.xorb));
    if (!file.terms.empty())
      t.run("INSERT OR IGNORE INTO dedup_chunks (chunk, xorb) VALUES (?, ?)", to_bytes(first_chunk),
            to_bytes(file.terms[0].xorb));
  }
  auto canonical = t.one("SELECT file FROM objects WHERE sha256 = ?", sha256);
  if (!canonical)
    t.run("INSERT INTO objects (sha256, size, file) VALUES (?, ?, ?)", sha256, file.size, hash);
  else if (is_damaged(t, to_hash(canonical->bytes(0))))
    t.run("UPDATE objects SET file = ? WHERE sha256 = ?", hash, sha256);
  return fresh || repaired;
}

bool Store::is_damaged(Transaction& t, const Hash& file) {
  return t
      .one(
          "SELECT 1 FROM xorbs x WHERE x.damaged = 1 AND EXISTS "
          "(SELECT 1 FROM file_xorbs f WHERE f.file = ? AND f.xorb = x.hash)",
          to_bytes(file))
      .has_value();
}

bool Store::grant_object(Transaction& t, int64_t repo, const Hash& sha256) {
  int64_t until = lease_until();
  if (t.run("UPDATE repo_objects SET lease_until = max(lease_until, ?) WHERE repo = ? AND "
            "sha256 = ?",
            until, repo, to_bytes(sha256)) > 0)
    return false;
  t.run("INSERT INTO repo_objects (repo, sha256, pushed_at, lease_until) VALUES (?, ?, ?, ?)", repo,
        to_bytes(sha256), now_ms(), until);
  return true;
}

std::optional<ContentObject> Store::find_object(Transaction& t, const Hash& sha256) {
  auto row = t.one("SELECT size, file FROM objects WHERE sha256 = ?", to_bytes(sha256));
  if (!row) return std::nullopt;
  return ContentObject{sha256.plain_hex(), uint64_t(row->integer(0)), to_hash(row->bytes(1))};
}

std::optional<FileRow> Store::find_file(const Hash& hash) {
  auto row = database.read([&](Transaction& t) {
    return t.one("SELECT size, sha256, terms FROM files WHERE hash = ?", to_bytes(hash));
  });
  if (!row) return std::nullopt;
  return FileRow{hash, uint64_t(row->integer(0)), to_hash(row->bytes(1)),
                 decode_terms(row->bytes(2))};
}

void Store::cover(Transaction& t, const Hash& xorb, int64_t repo, std::vector<bool>& chunks) {
  t.each_values(
      "SELECT f.terms FROM file_xorbs x JOIN files f ON f.hash = x.file "
      "JOIN repo_objects o ON o.repo = ? AND o.sha256 = f.sha256 "
      "WHERE x.xorb = ? AND (o.committed = 1 OR o.lease_until > ?) LIMIT ?",
      {repo, to_bytes(xorb), now_ms(), int64_t(kMaxCoveringFiles)}, [&](const Row& row) {
        for (auto& term : decode_terms(row.bytes(0)))
          if (term.xorb == xorb && term.chunk_end <= chunks.size())
            std::fill(chunks.begin() + term.chunk_begin, chunks.begin() + term.chunk_end, true);
        return true;
      });
}

std::vector<int64_t> Store::holders(Transaction& t, const Hash& xorb) {
  std::vector<int64_t> repos;
  t.each_values(
      "SELECT DISTINCT o.repo FROM file_xorbs x JOIN files f ON f.hash = x.file "
      "JOIN repo_objects o ON o.sha256 = f.sha256 "
      "WHERE x.xorb = ? AND (o.committed = 1 OR o.lease_until > ?) LIMIT ?",
      {to_bytes(xorb), now_ms(), int64_t(kMaxHolders)}, [&](const Row& row) {
        repos.push_back(row.integer(0));
        return true;
      });
  return repos;
}

}  // namespace pretrained::server
