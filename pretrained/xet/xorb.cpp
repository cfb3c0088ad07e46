#include "pretrained/xet/xorb.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "pretrained/base/error.h"

namespace pretrained::xet {
namespace {

constexpr std::string_view kFooter = "XETBLOB";
// The most that LZ4 adds to bytes it cannot pack, with room to spare.
constexpr uint64_t most_stored(uint64_t size) { return size + size / 128 + 256; }

[[noreturn]] void fail(size_t chunk, uint64_t offset, const std::string& what) {
  throw FormatError("xorb: chunk " + std::to_string(chunk) + " at byte " + std::to_string(offset) +
                    ": " + what);
}

uint32_t read_u24(const char* at) {
  auto byte = [&](int i) { return uint32_t(static_cast<unsigned char>(at[i])); };
  return byte(0) | byte(1) << 8 | byte(2) << 16;
}

void write_u24(uint64_t value, char* out) {
  for (int i = 0; i < 3; ++i) out[i] = char(value >> (8 * i) & 0xFF);
}

// `header` are 8 bytes; `table` is what stands before.
ChunkRecord read_header(const char* header, uint64_t offset, const XorbTable& table) {
  size_t index = table.chunks.size();
  if (index == kMaxXorbChunks)
    fail(index, offset, "a xorb has at most " + std::to_string(kMaxXorbChunks));
  if (header[0] != 0)
    fail(index, offset,
         "version " + std::to_string(static_cast<unsigned char>(header[0])) + ", expected 0");
  auto scheme = static_cast<unsigned char>(header[4]);
  if (scheme > uint8_t(Scheme::bg4_lz4))
    fail(index, offset, "unknown compression scheme " + std::to_string(scheme));
  ChunkRecord chunk{offset, read_u24(header + 1), read_u24(header + 5), Scheme(scheme), {}};
  std::string sizes =
      std::to_string(chunk.stored_size) + " stored for " + std::to_string(chunk.size) + " bytes";
  if (chunk.size == 0 || chunk.size > kMaxRawChunk)
    fail(index, offset, sizes + ", expected 1 … " + std::to_string(kMaxRawChunk));
  if (chunk.scheme == Scheme::none ? chunk.stored_size != chunk.size
                                   : chunk.stored_size > most_stored(chunk.size))
    fail(index, offset, sizes + " with scheme " + scheme_name(chunk.scheme));
  if (table.raw_size + chunk.size > kMaxXorbRaw)
    fail(index, offset, "the chunks hold more than " + std::to_string(kMaxXorbRaw) + " bytes");
  return chunk;
}

void add(XorbTable& table, const ChunkRecord& chunk) {
  table.raw_size += chunk.size;
  table.end = chunk.end();
  table.chunks.push_back(chunk);
}

void check_size(uint64_t size) {
  if (size > kMaxXorbUpload)
    throw FormatError("xorb: " + std::to_string(size) + " bytes or more, at most " +
                      std::to_string(kMaxXorbUpload) + " are taken");
}

void check_not_empty(const XorbTable& table) {
  if (table.chunks.empty()) throw FormatError("xorb: no chunks");
}

void check_root(const XorbTable& table, const Hash& expected) {
  if (table.hash != expected)
    throw FormatError("xorb: its chunks give the hash " + table.hash.hex() + ", expected " +
                      expected.hex());
}

}  // namespace

XorbTable parse_xorb(std::string_view bytes) {
  check_size(bytes.size());
  XorbTable table;
  while (table.end < bytes.size()) {
    std::string_view rest = bytes.substr(table.end);
    if (rest.starts_with(kFooter)) break;
    if (rest.size() < kRecordHeader)
      fail(table.chunks.size(), table.end, "the header is truncated");
    ChunkRecord chunk = read_header(rest.data(), table.end, table);
    if (chunk.stored_size > rest.size() - kRecordHeader)
      fail(table.chunks.size(), table.end,
           std::to_string(chunk.stored_size) + " bytes are stored, " +
               std::to_string(rest.size() - kRecordHeader) + " are left: it is truncated");
    add(table, chunk);
  }
  check_not_empty(table);
  return table;
}

std::string decode_chunk(std::string_view xorb, const ChunkRecord& chunk) {
  if (chunk.offset > xorb.size() || chunk.end() > xorb.size() || chunk.size > kMaxRawChunk)
    throw FormatError("xorb: no chunk at byte " + std::to_string(chunk.offset) + ": the xorb has " +
                      std::to_string(xorb.size()) + " bytes");
  return decompress(xorb.substr(chunk.offset + kRecordHeader, chunk.stored_size), chunk.scheme,
                    chunk.size);
}

std::string decode_record(std::string_view record) {
  XorbTable table = parse_xorb(record);
  if (table.chunks.size() != 1 || table.end != record.size())
    throw FormatError("xorb: expected one record and nothing after it");
  return decode_chunk(record, table.chunks[0]);
}

XorbTable verify_xorb(std::string_view bytes, const Hash& expected) {
  XorbVerifier verifier;
  verifier.feed(bytes);
  return verifier.finish(expected);
}

void XorbVerifier::chunk_complete(std::string_view stored) {
  std::string_view raw = stored;
  if (open_.scheme != Scheme::none) {
    raw_.resize(open_.size);
    try {
      decompress(stored, open_.scheme, raw_.data(), raw_.size());
    } catch (const FormatError& error) {
      fail(table_.chunks.size(), open_.offset, error.what());
    }
    raw = raw_;
  }
  open_.hash = chunk_hash(raw);
  tree_.add(open_.hash, open_.size);
  add(table_, open_);
  in_chunk_ = false;
}

void XorbVerifier::feed(std::string_view bytes) {
  check_size(offset_ + bytes.size());
  offset_ += bytes.size();
  while (!bytes.empty() && !in_footer_) {
    size_t wanted = in_chunk_ ? open_.stored_size : kRecordHeader;
    std::string_view part = bytes;
    if (!held_.empty() || bytes.size() < wanted) {
      size_t taken = std::min(wanted - held_.size(), bytes.size());
      held_.append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      part = held_;
    } else {
      part = bytes.substr(0, wanted);
      bytes.remove_prefix(wanted);
    }
    if (!in_chunk_ && part.starts_with(kFooter)) {
      in_footer_ = true;
    } else if (part.size() < wanted) {
      return;
    } else if (in_chunk_) {
      chunk_complete(part);
    } else {
      open_ = read_header(part.data(), table_.end, table_);
      in_chunk_ = true;
    }
    held_.clear();
  }
}

XorbTable XorbVerifier::finish() {
  if (in_chunk_ || !held_.empty())
    fail(table_.chunks.size(), table_.end,
         in_chunk_ ? "it is truncated" : "the header is truncated");
  check_not_empty(table_);
  table_.hash = tree_.root();
  return std::move(table_);
}

XorbTable XorbVerifier::finish(const Hash& expected) {
  XorbTable table = finish();
  check_root(table, expected);
  return table;
}

std::array<char, kRecordHeader> record_header(uint64_t stored_size, Scheme scheme, uint64_t size) {
  if (size == 0 || size > kMaxRawChunk || stored_size > most_stored(size))
    throw FormatError("xorb: no record holds " + std::to_string(size) + " bytes, " +
                      std::to_string(stored_size) + " stored");
  std::array<char, kRecordHeader> header{};
  write_u24(stored_size, &header[1]);
  header[4] = char(scheme);
  write_u24(size, &header[5]);
  return header;
}

void pack_in_place(std::span<const ChunkSize> chunks, std::string& bytes) {
  std::string packed;
  size_t from = 0, to = 0;
  for (auto& chunk : chunks) {
    std::string_view raw = std::string_view(bytes).substr(from + kRecordHeader, chunk.size);
    if (raw.size() != chunk.size) throw FormatError("xorb: a chunk is missing");
    Scheme scheme = compress(raw, packed);
    std::string_view stored = scheme == Scheme::none ? raw : packed;
    auto header = record_header(stored.size(), scheme, chunk.size);
    std::copy(header.begin(), header.end(), bytes.data() + to);
    to += kRecordHeader;
    if (bytes.data() + to != stored.data())
      std::memmove(bytes.data() + to, stored.data(), stored.size());
    from += kRecordHeader + chunk.size;
    to += stored.size();
  }
  bytes.resize(to);
}

bool XorbWriter::fits(uint64_t size) const {
  return size <= kMaxChunk && table_.chunks.size() < kMaxXorbChunks &&
         table_.raw_size + size <= kMaxXorb &&
         bytes_.size() + kRecordHeader + most_stored(size) <= kMaxXorb;
}

const ChunkRecord& XorbWriter::append(std::string_view chunk, const Hash& hash) {
  if (!fits(chunk.size())) return append(chunk, Scheme::none, chunk.size(), hash);  // throws
  Scheme scheme = compress(chunk, packed_);
  return append(scheme == Scheme::none ? chunk : packed_, scheme, chunk.size(), hash);
}

const ChunkRecord& XorbWriter::append(std::string_view stored, Scheme scheme, uint64_t size,
                                      const Hash& hash) {
  bool stored_fits =
      scheme == Scheme::none ? stored.size() == size : stored.size() <= most_stored(size);
  if (size == 0 || !stored_fits || !fits(size))
    throw FormatError("xorb: a chunk of " + std::to_string(size) + " bytes, " +
                      std::to_string(stored.size()) + " stored, does not fit after " +
                      std::to_string(table_.chunks.size()) + " chunks of " +
                      std::to_string(table_.raw_size) + " bytes");
  ChunkRecord chunk{bytes_.size(), uint32_t(stored.size()), uint32_t(size), scheme, hash};
  // Address space only: pages are taken as they are filled, and never copied to a larger string.
  if (bytes_.capacity() < kMaxXorb) bytes_.reserve(kMaxXorb);
  auto header = record_header(stored.size(), scheme, size);
  bytes_.append(header.data(), header.size()) += stored;
  tree_.add(hash, size);
  add(table_, chunk);
  return table_.chunks.back();
}

XorbTable XorbWriter::finish(std::string& bytes) {
  table_.hash = tree_.root();
  std::swap(bytes, bytes_);
  bytes_.clear();
  tree_ = {};
  return std::exchange(table_, {});
}

}  // namespace pretrained::xet
