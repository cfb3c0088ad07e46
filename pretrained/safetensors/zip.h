#pragma once
// The entries of a zip archive that lies in memory, for pytorch_model.bin: stored, not compressed,
// all bounds checked.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "pretrained/base/export.h"

namespace pretrained::safetensors {

struct ZipEntry {
  uint64_t begin = 0, size = 0;  // of its bytes in the archive
};
// Throws FormatError: no archive, compressed or doubled entries, anything out of bounds. At most a
// million entries.
PRETRAINED_API std::map<std::string, ZipEntry> read_zip(std::string_view archive,
                                                        const std::string& source);

}  // namespace pretrained::safetensors
