#include "pretrained/vision/image.h"

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/vision/codecs.h"

namespace pretrained::vision {
namespace {

constexpr uint64_t kMaxFile = 256 << 20;

// pixel(x, y) of the result comes from pixel(source(x, y)) of `image`.
template <class Source>
Image remap(const Image& image, bool swap, Source source) {
  Image out{swap ? image.height : image.width, swap ? image.width : image.height, 3, {}};
  out.pixels.resize(image.pixels.size());
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      auto [from_x, from_y] = source(x, y);
      const uint8_t* from =
          &image.pixels[(size_t(from_y) * size_t(image.width) + size_t(from_x)) * 3];
      std::copy(from, from + 3, &out.pixels[(size_t(y) * size_t(out.width) + size_t(x)) * 3]);
    }
  return out;
}

Image turn(Image image, int orientation) {
  int right = image.width - 1, bottom = image.height - 1;
  using P = std::pair<int, int>;
  switch (orientation) {
    case 2:
      return remap(image, false, [=](int x, int y) { return P(right - x, y); });
    case 3:
      return remap(image, false, [=](int x, int y) { return P(right - x, bottom - y); });
    case 4:
      return remap(image, false, [=](int x, int y) { return P(x, bottom - y); });
    case 5:
      return remap(image, true, [=](int x, int y) { return P(y, x); });
    case 6:
      return remap(image, true, [=](int x, int y) { return P(y, bottom - x); });
    case 7:
      return remap(image, true, [=](int x, int y) { return P(right - y, bottom - x); });
    case 8:
      return remap(image, true, [=](int x, int y) { return P(right - y, x); });
    default:
      return image;
  }
}

}  // namespace

void check_size(uint64_t width, uint64_t height, const std::string& name) {
  constexpr uint64_t kMaxPixels = 178'956'970;
  if (width == 0 || height == 0 || width > 65535 * 4 || height > 65535 * 4 ||
      width * height > kMaxPixels)
    throw FormatError(name + ": " + std::to_string(width) + " × " + std::to_string(height) +
                      " pixels; at most " + std::to_string(kMaxPixels) + " are decoded");
}

int read_orientation(std::string_view tiff) {
  bool little = tiff.substr(0, 4) == std::string_view("II*\0", 4);
  if (!little && tiff.substr(0, 4) != std::string_view("MM\0*", 4)) return 1;
  auto number = [&](size_t at, int size) -> uint32_t {
    uint32_t value = 0;
    if (at > tiff.size() || tiff.size() - at < size_t(size)) return 0;
    for (int i = 0; i < size; ++i)
      value = value << 8 | static_cast<uint8_t>(tiff[at + size_t(little ? size - 1 - i : i)]);
    return value;
  };
  size_t directory = number(4, 4);
  size_t count = number(directory, 2);
  for (size_t i = 0; i < count; ++i) {
    size_t entry = directory + 2 + i * 12;
    if (entry + 12 > tiff.size()) break;
    if (number(entry, 2) == 0x0112 && number(entry + 2, 2) == 3) return int(number(entry + 8, 2));
  }
  return 1;
}

Image decode_image(std::string_view bytes, const std::string& name, const DecodeOptions& options) {
  int orientation = 1;
  Image image;
  if (bytes.substr(0, 3) == "\xFF\xD8\xFF")
    image = decode_jpeg(bytes, name, orientation);
  else if (bytes.substr(0, 8) == std::string_view("\x89PNG\r\n\x1a\n", 8))
    image = decode_png(bytes, name, orientation);
  else if (bytes.substr(0, 4) == "RIFF" && bytes.size() > 12 && bytes.substr(8, 4) == "WEBP")
    image = decode_webp(bytes, name, orientation);
  else
    throw FormatError(name + ": not a JPEG, PNG or WebP image");
  return options.apply_exif_orientation ? turn(std::move(image), orientation) : image;
}

Image read_image(const std::filesystem::path& path, const DecodeOptions& options) {
  return decode_image(read_file(path, kMaxFile), path.string(), options);
}

}  // namespace pretrained::vision
