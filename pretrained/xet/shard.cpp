#include "pretrained/xet/shard.h"

#include <algorithm>

#include "pretrained/base/error.h"

namespace pretrained::xet {
namespace {

constexpr unsigned char kTag[32] = {
    'H',  'F',  'R',  'e',  'p',  'o',  'M',  'e',  't',  'a',  'D',  'a',  't',  'a',  0,    0x55,
    0x69, 0x67, 0x45, 0x6a, 0x7b, 0x81, 0x57, 0x83, 0xa5, 0xbd, 0xd9, 0x5c, 0xcd, 0xd1, 0x4a, 0xa9};
constexpr size_t kEntry = 48, kFooterSize = 200;
constexpr uint64_t kHeaderVersion = 2, kFooterVersion = 1;
constexpr uint32_t kWithVerification = 1u << 31, kWithSha256 = 1u << 30;
constexpr uint32_t kDedupEligible = 1u << 31;

[[noreturn]] void fail(uint64_t offset, const std::string& what) {
  throw FormatError("shard: at byte " + std::to_string(offset) + ": " + what);
}

// Hands out bytes one entry at a time and never more than there are.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  uint64_t offset() const { return at_; }
  void expect(uint64_t count, uint64_t entry, const char* what) const {
    if (count > (bytes_.size() - at_) / entry)
      fail(at_, std::to_string(count) + " " + what + ", " + std::to_string(bytes_.size() - at_) +
                    " bytes are left: it is truncated");
  }
  Hash hash() { return Hash::from_bytes(take(32)); }
  uint32_t u32() { return uint32_t(number(4)); }
  uint64_t u64() { return number(8); }
  void skip(size_t count) { take(count); }

 private:
  const char* take(size_t count) {
    expect(count, 1, "bytes needed");
    at_ += count;
    return bytes_.data() + at_ - count;
  }
  uint64_t number(size_t count) {
    auto* from = reinterpret_cast<const unsigned char*>(take(count));
    uint64_t value = 0;
    for (size_t i = count; i-- > 0;) value = value << 8 | from[i];
    return value;
  }
  std::string_view bytes_;
  uint64_t at_ = 0;
};

class Writer {
 public:
  void hash(const Hash& hash) {
    out.append(reinterpret_cast<const char*>(hash.bytes.data()), hash.bytes.size());
  }
  void u32(uint64_t value, const char* what) {
    if (value > UINT32_MAX)
      throw FormatError(std::string("shard: ") + what + " is " + std::to_string(value) +
                        ", more than 32 bits hold");
    number(value, 4);
  }
  void u64(uint64_t value) { number(value, 8); }
  void zeros(size_t count) { out.append(count, '\0'); }
  void bookend() {
    out.append(32, '\xff');
    zeros(16);
  }
  std::string out;

 private:
  void number(uint64_t value, size_t count) {
    for (size_t i = 0; i < count; ++i) out += char(value >> (8 * i) & 0xFF);
  }
};

bool is_bookend(const Hash& hash) {
  return std::ranges::all_of(hash.bytes, [](uint8_t byte) { return byte == 0xFF; });
}

ShardFile read_file(Reader& in, const Hash& hash) {
  ShardFile file{hash, {}, false, {}};
  uint64_t at = in.offset();
  uint32_t flags = in.u32(), count = in.u32();
  in.skip(8);
  file.has_verification = flags & kWithVerification;
  bool has_sha256 = flags & kWithSha256;
  if (flags & ~(kWithVerification | kWithSha256)) fail(at, "unknown file flags");
  in.expect(uint64_t(count) * (file.has_verification ? 2 : 1) + has_sha256, kEntry,
            "entries of a file");
  file.terms.resize(count);
  for (auto& term : file.terms) {
    at = in.offset();
    term.xorb = in.hash();
    in.skip(4);
    term.size = in.u32();
    term.chunk_begin = in.u32();
    term.chunk_end = in.u32();
    if (term.chunk_begin >= term.chunk_end || term.size == 0)
      fail(at, "a term of " + std::to_string(term.size) + " bytes, chunks " +
                   std::to_string(term.chunk_begin) + " … " + std::to_string(term.chunk_end));
  }
  if (file.has_verification) {
    for (auto& term : file.terms) {
      term.range_hash = in.hash();
      in.skip(16);
    }
  }
  if (has_sha256) {
    file.sha256 = in.hash().hex();  // stored as a Xet hash is: this gives the plain digits
    in.skip(16);
  }
  return file;
}

ShardXorb read_xorb(Reader& in, const Hash& hash) {
  ShardXorb xorb{hash, {}, 0};
  uint64_t at = in.offset();
  in.skip(4);
  uint32_t count = in.u32(), size = in.u32();
  xorb.stored_size = in.u32();
  in.expect(count, kEntry, "chunks of a xorb");
  xorb.chunks.resize(count);
  uint64_t end = 0;
  for (auto& chunk : xorb.chunks) {
    uint64_t chunk_at = in.offset();
    chunk.hash = in.hash();
    chunk.begin = in.u32();
    chunk.size = in.u32();
    chunk.dedup_eligible = in.u32() & kDedupEligible;
    in.skip(4);
    if (chunk.begin != end || chunk.size == 0)
      fail(chunk_at, "a chunk of " + std::to_string(chunk.size) + " bytes begins at " +
                         std::to_string(chunk.begin) + ", expected " + std::to_string(end));
    end += chunk.size;
  }
  if (end != size)
    fail(at, "the chunks of the xorb have " + std::to_string(end) + " bytes, it says " +
                 std::to_string(size));
  return xorb;
}

ShardFooter read_footer(std::string_view bytes, uint64_t xorbs_begin, uint64_t xorbs_end) {
  uint64_t begin = bytes.size() - kFooterSize;
  Reader in(bytes);
  in.skip(begin);
  ShardFooter footer;
  if (uint64_t version = in.u64(); version != kFooterVersion)
    fail(begin, "footer version " + std::to_string(version) + ", expected 1");
  uint64_t files = in.u64(), xorbs = in.u64();
  in.skip(6 * 8);  // the tables: nobody needs them
  footer.key = in.hash();
  footer.created = in.u64();
  footer.expires = in.u64();
  in.skip(9 * 8);
  if (files != kEntry || xorbs != xorbs_begin || in.u64() != begin || xorbs_end > begin)
    fail(begin, "the offsets in the footer are not those of the sections");
  return footer;
}

void write_file(Writer& out, const ShardFile& file) {
  out.hash(file.hash);
  out.u32((file.has_verification ? kWithVerification : 0) | (file.sha256 ? kWithSha256 : 0), "");
  out.u32(file.terms.size(), "the number of terms");
  out.zeros(8);
  for (auto& term : file.terms) {
    out.hash(term.xorb);
    out.zeros(4);
    out.u32(term.size, "");
    out.u32(term.chunk_begin, "");
    out.u32(term.chunk_end, "");
  }
  if (file.has_verification) {
    for (auto& term : file.terms) {
      out.hash(term.range_hash);
      out.zeros(16);
    }
  }
  if (file.sha256) {
    auto swapped = Hash::parse(*file.sha256);
    if (!swapped)
      throw FormatError("shard: the SHA-256 '" + printable(*file.sha256) + "' is not 64 digits");
    out.hash(*swapped);
    out.zeros(16);
  }
}

void write_xorb(Writer& out, const ShardXorb& xorb, const Hash& key) {
  out.hash(xorb.hash);
  out.zeros(4);
  out.u32(xorb.chunks.size(), "the number of chunks");
  out.u32(xorb.size(), "the size of a xorb");
  out.u32(xorb.stored_size, "");
  uint64_t begin = 0;
  for (auto& chunk : xorb.chunks) {
    out.hash(key.is_zero() ? chunk.hash : keyed_hash(chunk.hash, key));
    out.u32(begin, "");
    out.u32(chunk.size, "");
    out.u32(chunk.dedup_eligible ? kDedupEligible : 0, "");
    out.zeros(4);
    begin += chunk.size;
  }
}

std::string serialize(const Shard& shard, const ShardFooter* footer) {
  Writer out;
  out.out.append(reinterpret_cast<const char*>(kTag), sizeof kTag);
  out.u64(kHeaderVersion);
  out.u64(footer ? kFooterSize : 0);
  for (auto& file : shard.files) write_file(out, file);
  out.bookend();
  uint64_t xorbs_begin = out.out.size();
  for (auto& xorb : shard.xorbs) write_xorb(out, xorb, footer ? footer->key : Hash{});
  out.bookend();
  if (!footer) return std::move(out.out);
  uint64_t footer_begin = out.out.size();
  out.u64(kFooterVersion);
  out.u64(kEntry);
  out.u64(xorbs_begin);
  // Empty tables: hf_xet takes the offsets at their word, zeros there would make it read the header
  // as a table.
  for (int table = 0; table < 3; ++table) {
    out.u64(footer_begin);
    out.u64(0);
  }
  out.hash(footer->key);
  out.u64(footer->created);
  out.u64(footer->expires);
  out.zeros(9 * 8);
  out.u64(footer_begin);
  return std::move(out.out);
}

}  // namespace

uint64_t ShardFile::size() const {
  uint64_t sum = 0;
  for (auto& term : terms) sum += term.size;
  return sum;
}

uint64_t ShardXorb::size() const {
  uint64_t sum = 0;
  for (auto& chunk : chunks) sum += chunk.size;
  return sum;
}

Shard parse_shard(std::string_view bytes) {
  if (bytes.size() > kMaxShard)
    throw FormatError("shard: " + std::to_string(bytes.size()) + " bytes, at most " +
                      std::to_string(kMaxShard) + " are taken");
  if (!bytes.starts_with(std::string_view(reinterpret_cast<const char*>(kTag), sizeof kTag)))
    throw FormatError("shard: it does not start with the tag of a shard");
  Reader in(bytes);
  in.skip(sizeof kTag);
  uint64_t version = in.u64(), footer_size = in.u64();
  if (version != kHeaderVersion)
    fail(sizeof kTag, "version " + std::to_string(version) + ", expected 2");
  if (footer_size != 0 && footer_size != kFooterSize)
    fail(sizeof kTag + 8,
         "a footer of " + std::to_string(footer_size) + " bytes, expected 0 or 200");
  Shard shard;
  for (Hash hash = in.hash(); !is_bookend(hash); hash = in.hash())
    shard.files.push_back(read_file(in, hash));
  in.skip(16);
  uint64_t xorbs_begin = in.offset();
  for (Hash hash = in.hash(); !is_bookend(hash); hash = in.hash())
    shard.xorbs.push_back(read_xorb(in, hash));
  in.skip(16);
  if (footer_size != 0) {
    in.expect(kFooterSize, 1, "bytes of footer");
    shard.footer = read_footer(bytes, xorbs_begin, in.offset());
  } else if (in.offset() != bytes.size()) {
    fail(in.offset(), "bytes follow the end");
  }
  return shard;
}

std::string serialize_shard(const Shard& shard) { return serialize(shard, nullptr); }

std::string serialize_dedup_shard(const Shard& shard, const ShardFooter& footer) {
  return serialize(shard, &footer);
}

}  // namespace pretrained::xet
