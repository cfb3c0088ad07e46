#include "pretrained/safetensors/zip.h"

#include <algorithm>

#include "pretrained/base/error.h"

namespace pretrained::safetensors {
namespace {

constexpr uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50,
                   kCentral = 0x02014b50, kLocal = 0x04034b50;

class Bytes {
 public:
  Bytes(std::string_view bytes, const std::string& source) : bytes_(bytes), source_(source) {}
  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(source_ + ": not a PyTorch zip file: " + what);
  }
  void check(uint64_t at, uint64_t size) const {
    if (at > bytes_.size() || size > bytes_.size() - at)
      fail("it is truncated or lies about its parts");
  }
  uint64_t number(uint64_t at, int size) const {
    check(at, uint64_t(size));
    uint64_t value = 0;
    for (int i = size - 1; i >= 0; --i)
      value = value << 8 | static_cast<unsigned char>(bytes_[at + uint64_t(i)]);
    return value;
  }
  std::string text(uint64_t at, uint64_t size) const {
    check(at, size);
    return std::string(bytes_.substr(at, size));
  }
  uint64_t size() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
  const std::string& source_;
};

struct Directory {
  uint64_t at = 0, count = 0;
};

Directory find_directory(const Bytes& zip) {
  constexpr uint64_t kTail = 22, kComment = 65535;
  if (zip.size() < kTail)
    zip.fail(
        "too short (files older than PyTorch 1.6: load and save them again with a newer one, best "
        "as safetensors)");
  for (uint64_t back = kTail; back <= std::min(zip.size(), kTail + kComment); ++back) {
    uint64_t at = zip.size() - back;
    if (zip.number(at, 4) != kEnd || zip.number(at + 20, 2) != back - kTail) continue;
    Directory directory{zip.number(at + 16, 4), zip.number(at + 10, 2)};
    if (at >= 20 && zip.number(at - 20, 4) == kLocator64) {
      uint64_t end64 = zip.number(at - 12, 8);
      zip.check(end64, 56);
      if (zip.number(end64, 4) != kEnd64) zip.fail("its zip64 record is missing");
      directory = {zip.number(end64 + 48, 8), zip.number(end64 + 32, 8)};
    }
    return directory;
  }
  zip.fail(
      "it has no central directory (files older than PyTorch 1.6: load and save them again with a "
      "newer one, best as safetensors)");
}

// The 64-bit values of the extra field stand for those that are 0xFFFFFFFF, in this order: size,
// packed size, offset.
void apply_zip64(const Bytes& zip, uint64_t extra, uint64_t length, uint64_t& size,
                 uint64_t& packed, uint64_t& offset) {
  for (uint64_t at = extra, end = extra + length; at + 4 <= end;) {
    uint64_t id = zip.number(at, 2), count = zip.number(at + 2, 2), value = at + 4;
    if (id == 1)
      for (auto* field : {&size, &packed, &offset})
        if (*field == 0xFFFFFFFF && value + 8 <= at + 4 + count) {
          *field = zip.number(value, 8);
          value += 8;
        }
    at += 4 + count;
  }
}

}  // namespace

std::map<std::string, ZipEntry> read_zip(std::string_view archive, const std::string& source) {
  Bytes zip(archive, source);
  Directory directory = find_directory(zip);
  if (directory.count > 1'000'000) zip.fail("too many entries");
  std::map<std::string, ZipEntry> entries;
  uint64_t at = directory.at;
  for (uint64_t i = 0; i < directory.count; ++i) {
    zip.check(at, 46);
    if (zip.number(at, 4) != kCentral) zip.fail("its directory is damaged");
    uint64_t flags = zip.number(at + 8, 2), method = zip.number(at + 10, 2),
             packed = zip.number(at + 20, 4), size = zip.number(at + 24, 4);
    uint64_t name_size = zip.number(at + 28, 2), extra_size = zip.number(at + 30, 2),
             comment = zip.number(at + 32, 2);
    uint64_t offset = zip.number(at + 42, 4);
    std::string name = zip.text(at + 46, name_size);
    zip.check(at + 46 + name_size, extra_size);
    apply_zip64(zip, at + 46 + name_size, extra_size, size, packed, offset);
    if (method != 0 || packed != size || (flags & 1))
      zip.fail("the entry '" + printable(name) + "' is compressed or encrypted");
    if (zip.number(offset, 4) != kLocal)
      zip.fail("the entry '" + printable(name) + "' is not where the directory says");
    uint64_t local_name = zip.number(offset + 26, 2);
    if (zip.number(offset + 8, 2) != 0 || zip.text(offset + 30, local_name) != name)
      zip.fail("the entry '" + printable(name) + "' differs from what the directory says");
    ZipEntry entry{offset + 30 + local_name + zip.number(offset + 28, 2), size};
    zip.check(entry.begin, entry.size);
    if (!entries.emplace(name, entry).second)
      zip.fail("the entry '" + printable(name) + "' stands twice");
    at += 46 + name_size + extra_size + comment;
  }
  return entries;
}

}  // namespace pretrained::safetensors
