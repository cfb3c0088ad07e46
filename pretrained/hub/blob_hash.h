#pragma once
// The hash that names a blob, over its bytes as they come: SHA-256 where the etag has 64 digits,
// git's blob id (SHA-1 of "blob <size>\0" and the bytes) where it has 40.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "pretrained/base/export.h"
#include "pretrained/base/text.h"

namespace pretrained::hub {

// What a blob may be called: 40 or 64 digits.
PRETRAINED_API bool is_etag(std::string_view text);

class PRETRAINED_API BlobHasher {
 public:
  BlobHasher(const std::string& etag, uint64_t size);  // size: of the whole blob
  ~BlobHasher();
  BlobHasher(BlobHasher&& other) noexcept;
  BlobHasher& operator=(BlobHasher&& other) noexcept;
  void update(std::string_view bytes);
  std::string hex();  // ends the computation

 private:
  void* context_;
};

// Of a file, as long as `etag` is.
PRETRAINED_API std::string hash_blob(const std::filesystem::path& file, const std::string& etag);

}  // namespace pretrained::hub
