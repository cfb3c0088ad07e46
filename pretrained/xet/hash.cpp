#include "pretrained/xet/hash.h"

#include <algorithm>
#include <charconv>

#include "pretrained/xet/blake3.h"

namespace pretrained::xet {
namespace {

constexpr uint8_t kKeys[4][32] = {{0x66, 0x97, 0xf5, 0x77, 0x5b, 0x95, 0x50, 0xde, 0x31, 0x35, 0xcb,
                                   0xac, 0xa5, 0x97, 0x18, 0x1c, 0x9d, 0xe4, 0x21, 0x10, 0x9b, 0xeb,
                                   0x2b, 0x58, 0xb4, 0xd0, 0xb0, 0x4b, 0x93, 0xad, 0xf2, 0x29},
                                  {0x01, 0x7e, 0xc5, 0xc7, 0xa5, 0x47, 0x29, 0x96, 0xfd, 0x94, 0x66,
                                   0x66, 0xb4, 0x8a, 0x02, 0xe6, 0x5d, 0xdd, 0x53, 0x6f, 0x37, 0xc7,
                                   0x6d, 0xd2, 0xf8, 0x63, 0x52, 0xe6, 0x4a, 0x53, 0x71, 0x3f},
                                  {0x7f, 0x18, 0x57, 0xd6, 0xce, 0x56, 0xed, 0x66, 0x12, 0x7f, 0xf9,
                                   0x13, 0xe7, 0xa5, 0xc3, 0xf3, 0xa4, 0xcd, 0x26, 0xd5, 0xb5, 0xdb,
                                   0x49, 0xe6, 0x41, 0x24, 0x98, 0x7f, 0x28, 0xfb, 0x94, 0xc3},
                                  {}};

constexpr size_t kMaxChildren = 9;
constexpr uint64_t kBranching = 4;
constexpr uint64_t kDedupRate = 1024;

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Where byte i of the hash stands in the text of the two forms.
size_t swapped(size_t i) { return i / 8 * 8 + 7 - i % 8; }
size_t plain(size_t i) { return i; }

std::optional<Hash> parse_hex(std::string_view text, size_t (*place)(size_t)) {
  if (text.size() != 64) return std::nullopt;
  Hash hash;
  for (size_t i = 0; i < 32; ++i) {
    int high = digit_value(text[2 * place(i)]), low = digit_value(text[2 * place(i) + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    hash.bytes[i] = uint8_t(high << 4 | low);
  }
  return hash;
}

void write_hex(const Hash& hash, size_t (*place)(size_t), char* out) {
  for (size_t i = 0; i < 32; ++i) {
    out[2 * place(i)] = "0123456789abcdef"[hash.bytes[i] >> 4];
    out[2 * place(i) + 1] = "0123456789abcdef"[hash.bytes[i] & 15];
  }
}

ChunkSize parent_of(std::span<const ChunkSize> children) {
  char text[kMaxChildren * 88];  // 64 digits, " : ", at most 20 digits, "\n"
  char* at = text;
  uint64_t size = 0;
  for (auto& child : children) {
    write_hex(child.hash, swapped, at);
    at = std::copy_n(" : ", 3, at + 64);
    at = std::to_chars(at, at + 20, child.size).ptr;
    *at++ = '\n';
    size += child.size;
  }
  auto hash = Blake3(Blake3::Key::internal_node).update({text, size_t(at - text)}).finish();
  return {hash, size};
}

}  // namespace

Blake3::Blake3(Key key) { blake3_hasher_init_keyed(&state_, kKeys[size_t(key)]); }

std::optional<Hash> Hash::parse(std::string_view text) { return parse_hex(text, swapped); }
std::optional<Hash> Hash::parse_plain(std::string_view text) { return parse_hex(text, plain); }

Hash Hash::from_bytes(const void* bytes32) {
  Hash hash;
  std::memcpy(hash.bytes.data(), bytes32, 32);
  return hash;
}

std::string Hash::hex() const {
  std::string out(64, '0');
  write_hex(*this, swapped, out.data());
  return out;
}

std::string Hash::plain_hex() const {
  std::string out(64, '0');
  write_hex(*this, plain, out.data());
  return out;
}

uint64_t Hash::last_word() const {
  uint64_t word = 0;
  for (size_t i = 32; i-- > 24;) word = word << 8 | bytes[i];
  return word;
}

void Merkle::push(std::vector<Level>& levels, size_t level, ChunkSize node) {
  if (level == levels.size()) levels.emplace_back();
  auto& open = levels[level].open;
  open.push_back(node);
  // A group ends with its third or a later child whose hash says so, or when it is full.
  bool ends = open.size() >= 3 && node.hash.last_word() % kBranching == 0;
  if (!ends && open.size() < kMaxChildren) return;
  ChunkSize parent = parent_of(open);
  open.clear();
  levels[level].has_parent = true;
  push(levels, level + 1, parent);
}

void Merkle::add(const Hash& hash, uint64_t size) {
  push(levels_, 0, {hash, size});
  size_ += size;
  ++count_;
}

Hash Merkle::root() const {
  if (levels_.empty()) return {};
  auto levels = levels_;
  for (size_t level = 0;; ++level) {
    auto open = std::move(levels[level].open);
    if (!levels[level].has_parent && open.size() == 1) return open[0].hash;
    if (!open.empty()) {
      levels[level].open.clear();
      levels[level].has_parent = true;
      push(levels, level + 1, parent_of(open));
    }
  }
}

Hash Merkle::file_hash() const {
  return levels_.empty() ? Hash{} : Blake3(Blake3::Key::file).update(root()).finish();
}

Hash chunk_hash(std::string_view bytes) { return Blake3(Blake3::Key::data).update(bytes).finish(); }

Hash xorb_hash(std::span<const ChunkSize> chunks) {
  Merkle tree;
  for (auto& chunk : chunks) tree.add(chunk.hash, chunk.size);
  return tree.root();
}

Hash file_hash(std::span<const ChunkSize> chunks) {
  Merkle tree;
  for (auto& chunk : chunks) tree.add(chunk.hash, chunk.size);
  return tree.file_hash();
}

Hash range_hash(std::span<const Hash> chunks) {
  Blake3 hasher(Blake3::Key::verification);
  for (auto& hash : chunks) hasher.update(hash);
  return hasher.finish();
}

Hash keyed_hash(const Hash& hash, const Hash& key) { return Blake3(key).update(hash).finish(); }

bool is_global_dedup_eligible(const Hash& chunk) { return chunk.last_word() % kDedupRate == 0; }

}  // namespace pretrained::xet
