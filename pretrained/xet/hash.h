#pragma once
// The hashes of Xet, the content-addressed format in which the hub stores large files.
//
//   chunk   BLAKE3 of its bytes, keyed "data"
//   xorb    root of the Merkle tree over its chunks; a node is BLAKE3, keyed "internal node", of
//           one line "<hash> : <size>\n" for each of its 2 … 9 children (of 1 where only one is
//           left), its size is their sum
//   file    the same root over the file's chunks, hashed once more with a key of zeros; 32 zero
//           bytes for the empty file
//   range   BLAKE3, keyed "verification", of the concatenated chunk hashes: proves to a server that
//           whoever registers a file has seen its chunks
//
// As text a hash is four little-endian 64-bit numbers of 16 hexadecimal digits each, which is not
// the order of its bytes. Spec: https://huggingface.co/docs/xet/hashing
// Threads: all functions are reentrant; a Merkle belongs to one thread.

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::xet {

struct PRETRAINED_API Hash {
  std::array<uint8_t, 32> bytes{};

  // The Xet text form: 64 hexadecimal digits in either case, nothing else.
  static std::optional<Hash> parse(std::string_view text);
  // 64 digits in the order of the bytes, as SHA-256 is written.
  static std::optional<Hash> parse_plain(std::string_view text);
  static Hash from_bytes(const void* bytes32);

  std::string hex() const;        // the Xet text form, lower case
  std::string plain_hex() const;  // in the order of the bytes
  bool is_zero() const { return *this == Hash{}; }
  // The last 8 bytes as a little-endian number: tree and deduplication rules look at it.
  uint64_t last_word() const;

  auto operator<=>(const Hash&) const = default;
};

struct ChunkSize {
  Hash hash;
  uint64_t size = 0;  // bytes before compression
  bool operator==(const ChunkSize&) const = default;
};

// The tree in one pass and little memory: at most 9 open children per level.
class PRETRAINED_API Merkle {
 public:
  void add(const Hash& hash, uint64_t size);
  // Zeros where nothing was added; the hash itself where one was. add() may go on afterwards.
  Hash root() const;
  Hash file_hash() const;                    // of a file with these chunks
  uint64_t size() const { return size_; }    // sum of the sizes
  uint64_t count() const { return count_; }  // chunks added

 private:
  struct Level {
    std::vector<ChunkSize> open;
    bool has_parent = false;  // at least one group was closed
  };
  static void push(std::vector<Level>& levels, size_t level, ChunkSize node);
  std::vector<Level> levels_;
  uint64_t size_ = 0, count_ = 0;
};

PRETRAINED_API Hash chunk_hash(std::string_view bytes);
PRETRAINED_API Hash xorb_hash(std::span<const ChunkSize> chunks);
PRETRAINED_API Hash file_hash(std::span<const ChunkSize> chunks);
PRETRAINED_API Hash range_hash(std::span<const Hash> chunks);

// A chunk hash under the secret key of a deduplication answer (shard.h).
PRETRAINED_API Hash keyed_hash(const Hash& hash, const Hash& key);

// One chunk in 1024: these (and the first chunk of every file) may be asked for across
// repositories.
PRETRAINED_API bool is_global_dedup_eligible(const Hash& chunk);

}  // namespace pretrained::xet

template <>
struct std::hash<pretrained::xet::Hash> {
  // Its bytes are a hash already.
  size_t operator()(const pretrained::xet::Hash& hash) const noexcept {
    size_t word;
    std::memcpy(&word, hash.bytes.data(), sizeof word);
    return word;
  }
};
