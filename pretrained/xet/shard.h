#pragma once
// A shard: how files are put together from chunks of xorbs, and what chunks xorbs have. Clients
// upload one per commit; a server answers deduplication queries with one.
//
//   header    48   32-byte tag, u64 version 2, u64 size of the footer: 200, or 0 for none
//   files          per file: file hash, u32 flags, u32 n, 8 unused
//             n ×  xorb hash, u32 flags, u32 raw size, u32 first chunk, u32 end chunk
//             n ×  range hash, 16 unused                                     (flags bit 31)
//             1 ×  SHA-256 with its bytes swapped as in Hash::hex, 16 unused (flags bit 30)
//             32 × FF, 16 × 00
//   xorbs          per xorb: xorb hash, u32 flags, u32 n, u32 raw size, u32 stored size
//             n ×  chunk hash, u32 raw begin, u32 raw size, u32 flags, u32 unused
//             32 × FF, 16 × 00
//   tables         optional, for binary search; skipped
//   footer   200   u64 version 1, u64 offsets of files and xorbs, 3 × (u64 offset, u64 length) of
//                  the tables, 32-byte key of the chunk hashes or zeros, u64 created, u64 expires
//                  (Unix seconds), 72 unused or statistics, u64 offset of the footer
//
// All numbers are little-endian, every entry is 48 bytes. Stored sizes are often 0: hf_xet does not
// fill them in. Spec: https://huggingface.co/docs/xet/shard
// Reading checks every count against the bytes that are there before anything is allocated; a shard
// that breaks a rule is a FormatError that names entry and offset. What a shard says about hashes
// is a claim: whether xorbs exist, sizes agree and range hashes match is for the caller to check.
// Threads: functions are reentrant.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/xet/hash.h"

namespace pretrained::xet {

inline constexpr uint64_t kMaxShard = 64 << 20;

// A run of consecutive chunks of one xorb.
struct FileTerm {
  Hash xorb;
  uint32_t size = 0;                        // raw bytes
  uint32_t chunk_begin = 0, chunk_end = 0;  // end-exclusive, not empty
  Hash range_hash;                          // zeros without verification
  bool operator==(const FileTerm&) const = default;
};

struct PRETRAINED_API ShardFile {
  Hash hash;
  std::vector<FileTerm> terms;  // in the order of the file; none for the empty file
  bool has_verification = false;
  std::optional<std::string> sha256;  // 64 lower-case digits as sha256sum prints them
  uint64_t size() const;              // sum over the terms
  bool operator==(const ShardFile&) const = default;
};

struct ShardChunk {
  Hash hash;
  uint32_t begin = 0, size = 0;  // raw bytes in the xorb; chunks follow each other without holes
  bool dedup_eligible = false;   // the flag alone; is_global_dedup_eligible() is the other half
  bool operator==(const ShardChunk&) const = default;
};

struct PRETRAINED_API ShardXorb {
  Hash hash;
  std::vector<ShardChunk> chunks;
  uint32_t stored_size = 0;  // or 0 where the writer did not know
  uint64_t size() const;     // sum over the chunks
  bool operator==(const ShardXorb&) const = default;
};

struct ShardFooter {
  Hash key;                                      // zeros: chunk hashes are as they are
  uint64_t created = 0, expires = ~uint64_t(0);  // Unix seconds
  bool operator==(const ShardFooter&) const = default;
};

struct Shard {
  std::vector<ShardFile> files;
  std::vector<ShardXorb> xorbs;
  std::optional<ShardFooter> footer;
};

PRETRAINED_API Shard parse_shard(std::string_view bytes);

// Without a footer, as clients upload. `begin` of chunks is computed, `shard.footer` ignored.
// FormatError where a number does not fit or a SHA-256 is none.
PRETRAINED_API std::string serialize_shard(const Shard& shard);

// With a footer, as a server answers a query. Where footer.key is not zeros every chunk hash is
// written under it: keyed_hash(hash, key). A client then finds the chunks it has and learns nothing
// about others, until the key expires. The tables are empty.
PRETRAINED_API std::string serialize_dedup_shard(const Shard& shard, const ShardFooter& footer);

}  // namespace pretrained::xet
