#pragma once
// A xorb: up to 8192 chunks in one object of up to 64 MiB, named by the root over their hashes.
//
//   u8   version, 0      ┐
//   u24  stored size     │ one record per chunk, until the end
//   u8   scheme          │ (compression.h)
//   u24  raw size        │
//        stored bytes    ┘
//        "XETBLOB" …       an index that old clients append and nobody needs; skipped
//
// All numbers are little-endian. A xorb carries neither its hash nor those of its chunks: who
// receives one decodes and hashes every chunk and compares the root.
// Spec: https://huggingface.co/docs/xet/xorb
// Every rule is checked before a byte is used; a xorb that breaks one is a FormatError that names
// chunk and offset. Threads: functions are reentrant; writers and verifiers belong to one thread.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/xet/chunker.h"
#include "pretrained/xet/compression.h"
#include "pretrained/xet/hash.h"

namespace pretrained::xet {

inline constexpr uint64_t kMaxXorb = 64 << 20;        // what a writer fills, raw and stored
inline constexpr uint64_t kMaxXorbUpload = 68 << 20;  // what a reader takes
inline constexpr size_t kMaxXorbChunks = 8192;
inline constexpr size_t kRecordHeader = 8;
// Clients write chunks of at most kMaxChunk; what a reader takes. hf_xet itself refuses to read
// chunks above kMaxChunk.
inline constexpr uint64_t kMaxRawChunk = 1 << 20;
// Of all chunks together, against bombs: the most that well-formed ones can hold.
inline constexpr uint64_t kMaxXorbRaw = kMaxXorbChunks * kMaxChunk;

struct ChunkRecord {
  uint64_t offset = 0;       // of the record's first byte in the xorb
  uint32_t stored_size = 0;  // without the header
  uint32_t size = 0;         // raw
  Scheme scheme = Scheme::none;
  Hash hash;  // zeros where nobody computed it: parse_xorb() does not
  uint64_t end() const { return offset + kRecordHeader + stored_size; }
  bool operator==(const ChunkRecord&) const = default;
};

struct XorbTable {
  Hash hash;  // zeros after parse_xorb()
  std::vector<ChunkRecord> chunks;
  uint64_t raw_size = 0;  // of all chunks
  uint64_t end = 0;       // where the records end; a footer may follow
};

// The table of records. Reads headers only, so the chunks may still be damaged.
PRETRAINED_API XorbTable parse_xorb(std::string_view bytes);

// One chunk's bytes, from the whole xorb or from its record alone.
PRETRAINED_API std::string decode_chunk(std::string_view xorb, const ChunkRecord& chunk);
PRETRAINED_API std::string decode_record(std::string_view record);

// Decodes and hashes everything; FormatError unless the root is `expected`.
PRETRAINED_API XorbTable verify_xorb(std::string_view bytes, const Hash& expected);

// The same for a xorb that arrives in pieces, in the memory of one chunk.
class PRETRAINED_API XorbVerifier {
 public:
  // Throws at the first byte that breaks a rule; the verifier is then of no further use.
  void feed(std::string_view bytes);
  // At the end of the xorb. Without `expected` the caller compares the hash.
  XorbTable finish();
  XorbTable finish(const Hash& expected);

 private:
  void chunk_complete(std::string_view stored);
  XorbTable table_;
  Merkle tree_;
  std::string held_, raw_;  // an incomplete header or chunk; the chunk decoded last
  ChunkRecord open_;
  uint64_t offset_ = 0;  // of the next byte
  bool in_chunk_ = false, in_footer_ = false;
};

// The header of one chunk's record, for whoever writes a xorb piece by piece: the stored bytes
// follow it.
PRETRAINED_API std::array<char, kRecordHeader> record_header(uint64_t stored_size, Scheme scheme,
                                                             uint64_t size);

// Makes a xorb, in place, of chunks that lie one behind the other, each behind kRecordHeader bytes
// of any content: what lies there already is neither copied nor moved unless it becomes shorter.
PRETRAINED_API void pack_in_place(std::span<const ChunkSize> chunks, std::string& bytes);

class PRETRAINED_API XorbWriter {
 public:
  // Whether one more chunk of this raw size surely fits.
  bool fits(uint64_t size) const;
  // Compresses and appends. FormatError where it does not fit or is longer than kMaxChunk.
  const ChunkRecord& append(std::string_view chunk) { return append(chunk, chunk_hash(chunk)); }
  // The same with the hash known, and for a chunk compressed before.
  const ChunkRecord& append(std::string_view chunk, const Hash& hash);
  const ChunkRecord& append(std::string_view stored, Scheme scheme, uint64_t size,
                            const Hash& hash);
  bool empty() const { return table_.chunks.empty(); }
  const std::vector<ChunkRecord>& chunks() const { return table_.chunks; }
  const std::string& bytes() const { return bytes_; }
  Hash hash() const { return tree_.root(); }
  // Gives the bytes (and keeps the memory of the string that it fills), then the table; the writer
  // is ready for the next xorb.
  XorbTable finish(std::string& bytes);

 private:
  std::string bytes_, packed_;
  XorbTable table_;
  Merkle tree_;
};

}  // namespace pretrained::xet
