#include "server/git/pack_writer.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr size_t kBuffer = 256 << 10;

std::string big_endian(uint64_t value, int bytes) {
  std::string text;
  while (bytes-- > 0) text += char(value >> (8 * bytes));
  return text;
}

std::string_view raw(const git_oid& oid) {
  return {reinterpret_cast<const char*>(oid.id), GIT_OID_RAWSZ};
}

std::string hex(std::string_view bytes) {
  git_oid oid;
  git_oid_fromraw(&oid, reinterpret_cast<const unsigned char*>(bytes.data()));
  char text[GIT_OID_HEXSZ];
  git_oid_fmt(text, &oid);
  return std::string(text, sizeof text);
}

// A blob that ends with the SHA-1 of what is before.
class SummedBlob {
 public:
  SummedBlob(BlobStore& blobs, uint64_t expected)
      : blob(blobs.stage(expected)), digest_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (EVP_DigestInit_ex(digest_.get(), EVP_sha1(), nullptr) != 1)
      throw Error("SHA-1: not available in OpenSSL");
  }
  void write(std::string_view bytes) {
    EVP_DigestUpdate(digest_.get(), bytes.data(), bytes.size());
    crc_ = uint32_t(crc32_z(crc_, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
    buffer_.append(bytes);
    if (buffer_.size() >= kBuffer) flush();
  }
  // Writes the sum and gives its 20 bytes.
  std::string finish() {
    unsigned char sum[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(digest_.get(), sum, nullptr);
    std::string text(reinterpret_cast<char*>(sum), GIT_OID_RAWSZ);
    buffer_ += text;
    flush();
    return text;
  }
  uint64_t position() const { return blob.size() + buffer_.size(); }
  // CRC-32 of what was written since the last call.
  uint32_t take_crc() { return std::exchange(crc_, 0); }

  StagedBlob blob;

 private:
  void flush() {
    blob.write(buffer_);
    buffer_.clear();
  }
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> digest_;
  std::string buffer_;
  uint32_t crc_ = 0;
};

void write_compressed(SummedBlob& pack, std::string_view bytes) {
  z_stream stream{};
  if (deflateInit(&stream, Z_BEST_SPEED) != Z_OK) throw Error("zlib: out of memory");
  std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, deflateEnd);
  unsigned char out[64 << 10];
  int code = Z_OK;
  while (code != Z_STREAM_END) {
    std::string_view piece = bytes.substr(0, size_t{1} << 30);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    stream.avail_in = uInt(piece.size());
    stream.next_out = out;
    stream.avail_out = sizeof out;
    code = deflate(&stream, piece.size() == bytes.size() ? Z_FINISH : Z_NO_FLUSH);
    bytes.remove_prefix(piece.size() - stream.avail_in);
    pack.write({reinterpret_cast<char*>(out), sizeof out - stream.avail_out});
  }
}

struct IndexEntry {
  git_oid oid;
  uint32_t crc;
  uint64_t offset;
};

void write_index(SummedBlob& index, std::vector<IndexEntry>& entries, std::string_view pack_sum) {
  std::sort(entries.begin(), entries.end(), [](const IndexEntry& a, const IndexEntry& b) {
    return git_oid_cmp(&a.oid, &b.oid) < 0;
  });
  index.write(std::string_view("\377tOc\0\0\0\2", 8));
  uint32_t fanout[256] = {}, total = 0;
  for (auto& entry : entries) ++fanout[entry.oid.id[0]];
  for (uint32_t count : fanout) index.write(big_endian(total += count, 4));
  for (auto& entry : entries) index.write(raw(entry.oid));
  for (auto& entry : entries) index.write(big_endian(entry.crc, 4));
  std::string large;  // offsets beyond 31 bits
  for (auto& entry : entries) {
    bool fits = entry.offset < 0x80000000u;
    index.write(big_endian(fits ? entry.offset : 0x80000000u | (large.size() / 8), 4));
    if (!fits) large += big_endian(entry.offset, 8);
  }
  index.write(large);
  index.write(pack_sum);
  index.finish();
}

std::string copy_blob(BlobStore& blobs, const fs::path& file, const std::string& name,
                      uint64_t& bytes) {
  FileDescriptor source(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (source.get() < 0) throw IoError(file.string() + ": " + std::strerror(errno));
  StagedBlob blob = blobs.stage(fs::file_size(file));
  std::string buffer(kBuffer * 4, '\0');
  for (;;) {
    ssize_t got = read(source.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError(file.string() + ": " + std::strerror(errno));
    if (got == 0) break;
    blob.write({buffer.data(), size_t(got)});
  }
  bytes += blob.size();
  return blobs.publish(std::move(blob), name);
}

}  // namespace

GitStore::Stored write_pack(BlobStore& blobs, const std::vector<PackObject>& objects) {
  uint64_t expected = 0;
  for (auto& object : objects) expected += object.size() + 64;
  SummedBlob pack(blobs, expected), index(blobs, objects.size() * 32 + 1100);
  pack.write("PACK" + big_endian(2, 4) + big_endian(objects.size(), 4));
  std::vector<IndexEntry> entries;
  for (auto& object : objects) {
    pack.take_crc();
    uint64_t offset = pack.position(), size = object.size();
    std::string header(1, char(int(object.type) << 4 | int(size & 15)));
    for (size >>= 4; size > 0; size >>= 7) {
      header.back() = char(header.back() | 0x80);
      header += char(size & 0x7f);
    }
    pack.write(header);
    write_compressed(pack, object.piece ? object.piece->read() : object.bytes);
    entries.push_back({object.oid, pack.take_crc(), offset});
  }
  std::string sum = pack.finish();
  write_index(index, entries, sum);

  GitStore::Stored stored;
  stored.checksum = hex(sum);
  stored.objects = objects.size();
  stored.bytes = pack.blob.size() + index.blob.size();
  stored.pack_blob = blobs.publish(std::move(pack.blob), "packs/" + stored.checksum + ".pack");
  stored.index_blob = blobs.publish(std::move(index.blob), "packs/" + stored.checksum + ".idx");
  return stored;
}

GitStore::Stored store_pack(BlobStore& blobs, const fs::path& folder, const std::string& checksum) {
  GitStore::Stored stored;
  stored.checksum = checksum;
  std::string base = (folder / ("pack-" + checksum)).string(), name = "packs/" + checksum;
  stored.pack_blob = copy_blob(blobs, base + ".pack", name + ".pack", stored.bytes);
  stored.index_blob = copy_blob(blobs, base + ".idx", name + ".idx", stored.bytes);
  // The number of objects is the last word of the index's fan-out table.
  std::string head(8 + 1024, '\0');
  FileDescriptor index = blobs.open(stored.index_blob);
  if (pread(index.get(), head.data(), head.size(), 0) != ssize_t(head.size()))
    throw FormatError(base + ".idx: too short for a pack index");
  for (size_t i = head.size() - 4; i < head.size(); ++i)
    stored.objects = stored.objects << 8 | uint8_t(head[i]);
  return stored;
}

}  // namespace pretrained::server
