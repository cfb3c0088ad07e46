#pragma once
// For this room only: the rows of large content as values, and what every door does with them.

#include <atomic>
#include <list>
#include <mutex>
#include <unordered_map>

#include "pretrained/xet/shard.h"
#include "pretrained/xet/xorb.h"
#include "server/cas/content_store.h"

namespace pretrained::server {

using xet::FileTerm;
using xet::Hash;

inline constexpr uint64_t kMaxObject = uint64_t(1) << 40;

inline Bytes to_bytes(const Hash& hash) {
  return {std::string(hash.bytes.begin(), hash.bytes.end())};
}
Hash to_hash(const std::string& bytes);     // of a column
Hash parse_sha256(const std::string& hex);  // FormatError; 64 digits

// `xorbs.chunk_table`.
class ChunkTable {
 public:
  static std::string encode(const xet::XorbTable& xorb);
  // `end`: of the last record. Error where the row is damaged.
  ChunkTable(std::string bytes, uint64_t end);
  size_t size() const { return bytes_.size() / kEntry; }
  Hash hash(size_t chunk) const { return Hash::from_bytes(bytes_.data() + chunk * kEntry); }
  uint32_t raw_size(size_t chunk) const { return number(chunk, 36); }
  // Of the chunk's record.
  uint64_t begin(size_t chunk) const { return chunk == size() ? end_ : number(chunk, 32); }
  uint64_t end(size_t chunk) const { return begin(chunk + 1); }

 private:
  static constexpr size_t kEntry = 40;
  uint32_t number(size_t chunk, size_t at) const;
  std::string bytes_;
  uint64_t end_;
};

// `files.terms`.
std::string encode_terms(const std::vector<FileTerm>& terms);
std::vector<FileTerm> decode_terms(const std::string& bytes);

// A xorb opened for reading. Chunks are compared with their hashes when they are read for the first
// time and again when the xorb was long unused.
class OpenXorb {
 public:
  OpenXorb(const Hash& hash, std::string blob, FileDescriptor file, ChunkTable table);
  const Hash hash;
  const std::string blob;
  const FileDescriptor file;
  const ChunkTable table;

  // The chunk, read, decoded and compared. DamagedContent.
  std::string read(size_t chunk) const;
  // Where a chunk that was compared before lies as it is in `file`; nothing for others.
  std::optional<uint64_t> plain_offset(size_t chunk) const;

 private:
  [[noreturn]] void damaged(size_t chunk, const std::string& found) const;
  std::string record(size_t chunk, uint64_t size) const;
  std::unique_ptr<std::atomic<bool>[]> compared_;
};

// The xorbs used last, kept open. Safe from any thread.
class OpenXorbs {
 public:
  OpenXorbs(Database& database, BlobStore& blobs) : database_(database), blobs_(blobs) {}
  std::shared_ptr<const OpenXorb> find(const Hash& hash);  // null where there is none
  // The same where a file refers to it: DamagedContent where there is none.
  std::shared_ptr<const OpenXorb> open(const Hash& hash);
  void forget(const Hash& hash);

 private:
  using Entry = std::pair<std::shared_ptr<const OpenXorb>, std::list<Hash>::iterator>;
  void drop(const Hash& hash);
  Database& database_;
  BlobStore& blobs_;
  std::mutex mutex_;
  std::list<Hash> order_;  // last used first
  std::unordered_map<Hash, Entry> open_;
  size_t chunks_ = 0;  // of all open ones
};

struct FileRow {
  Hash hash;
  uint64_t size = 0;
  Hash sha256;
  std::vector<FileTerm> terms;
};

struct Store {
  Database& database;
  BlobStore& blobs;
  int64_t lease_ms;
  OpenXorbs xorbs{database, blobs};

  int64_t lease_until() const { return now_ms() + lease_ms; }

  // Rows. `add_xorb` gives false where there is a sound one already: its lease is renewed and
  // `blob` is not needed. Both ways the repository may build files of it.
  bool add_xorb(Transaction& t, int64_t repo, const xet::XorbTable& xorb, const std::string& blob);
  // The lease of a xorb; false where there is no such xorb (any more), or none that is sound.
  bool renew_xorb(Transaction& t, const Hash& xorb);
  void grant_xorb(Transaction& t, int64_t repo, const Hash& xorb);
  void remember_uploader(Transaction& t, const Hash& xorb, std::optional<int64_t> user);
  // A verified file and the object that it is; the first sound file of an object is canonical.
  // False where there is such a file already, and a sound one. The xorbs' rows must be there.
  bool add_file(Transaction& t, const FileRow& file, const Hash& first_chunk);
  bool is_damaged(Transaction& t, const Hash& file);  // some xorb of it is
  // Gives an object to a repository under lease. True: it is new there.
  bool grant_object(Transaction& t, int64_t repo, const Hash& sha256);
  std::optional<ContentObject> find_object(Transaction& t, const Hash& sha256);
  std::optional<FileRow> find_file(const Hash& hash);

  // Which chunks of a xorb lie in files that this repository holds, up to a bounded number of
  // files.
  void cover(Transaction& t, const Hash& xorb, int64_t repo, std::vector<bool>& chunks);
  std::vector<int64_t> holders(Transaction& t, const Hash& xorb);  // of files of it; bounded

  void read(const FileRow& file, uint64_t first, uint64_t last, const ContentStore::Output& output);
};

// Multipart uploads whose lease is over.
void remove_expired_uploads(BlobStore& blobs);

struct ContentStore::State : Store {};

}  // namespace pretrained::server
