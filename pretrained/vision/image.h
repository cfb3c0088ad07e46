#pragma once
// Pictures: JPEG, PNG and WebP files → 8-bit RGB, pixel for pixel what Pillow 13's
// Image.open(f).convert("RGB") gives, by libjpeg-turbo, libpng and libwebp. The kind is told by the
// bytes, not the name. Hostile files end in a FormatError: truncated, corrupt, or larger than
// 178,956,970 pixels (Pillow's own limit). Threads: all functions are reentrant.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::vision {

struct Image {
  int width = 0, height = 0;
  int channels = 3;
  std::vector<uint8_t>
      pixels;  // height × width × channels, rows top to bottom, channels interleaved
};

struct DecodeOptions {
  // Turns the picture as its EXIF orientation says, as ImageOps.exif_transpose; timm's own pipeline
  // does not.
  bool apply_exif_orientation = true;
};

// `name` is for messages. Files are at most 256 MiB.
PRETRAINED_API Image decode_image(std::string_view bytes, const std::string& name,
                                  const DecodeOptions& options = {});
PRETRAINED_API Image read_image(const std::filesystem::path& path,
                                const DecodeOptions& options = {});
// 8-bit RGB or grey PNG, whole or not at all.
PRETRAINED_API void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace pretrained::vision
