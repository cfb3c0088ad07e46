#include <csetjmp>
#include <cstring>

#include <png.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/vision/codecs.h"

namespace pretrained::vision {
namespace {

struct Source {
  std::string_view bytes;
  size_t at = 0;
  char message[256] = "";
};

void on_error(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::snprintf(source->message, sizeof source->message, "%s", message);
  longjmp(png_jmpbuf(png), 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->bytes.size() - source->at) png_error(png, "the file is truncated");
  std::memcpy(out, source->bytes.data() + source->at, count);
  source->at += count;
}

// Asks for 8-bit RGB: Pillow's convert("RGB") drops alpha, expands palettes and grey, and keeps the
// high byte of 16 bits.
void set_transforms(png_structp png, png_infop info) {
  int depth = png_get_bit_depth(png, info), type = png_get_color_type(png, info);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
  if (type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA) png_set_gray_to_rgb(png);
  if (depth == 16) png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
}

bool decode(png_structp png, png_infop info, Source& source, Image& image,
            std::vector<png_bytep>& rows, bool& too_large, bool& grey16, std::string_view& exif) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_read_fn(png, &source, read_bytes);
  png_set_user_limits(png, 65535 * 4, 65535 * 4);
  png_set_chunk_malloc_max(png, 16 << 20);
  png_set_chunk_cache_max(png, 128);
  png_read_info(png, info);
  image.width = int(png_get_image_width(png, info));
  image.height = int(png_get_image_height(png, info));
  too_large = uint64_t(image.width) * uint64_t(image.height) > 178'956'970;
  if (too_large) return true;
  grey16 =
      png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16;
  if (grey16) {
    png_set_swap(png);
    png_set_interlace_handling(png);
  } else {
    set_transforms(png, info);
  }
  png_read_update_info(png, info);
  image.channels = grey16 ? 2 : 3;
  size_t stride = size_t(image.width) * size_t(image.channels);
  if (png_get_rowbytes(png, info) != stride) png_error(png, "unexpected layout");
  image.pixels.resize(stride * size_t(image.height));
  rows.resize(size_t(image.height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = &image.pixels[y * stride];
  png_read_image(png, rows.data());
  png_read_end(png, info);
  png_bytep block = nullptr;
  png_uint_32 size = 0;
  if (png_get_eXIf_1(png, info, &size, &block)) exif = {reinterpret_cast<const char*>(block), size};
  return true;
}

// Pillow reads 16-bit grey as "I;16" and clips it to 255 when it becomes 8 bits.
Image clip_grey16(const Image& image) {
  Image out{image.width, image.height, 3, {}};
  for (size_t i = 0; i + 1 < image.pixels.size(); i += 2) {
    int value = image.pixels[i] | image.pixels[i + 1] << 8;
    out.pixels.insert(out.pixels.end(), 3, uint8_t(std::min(value, 255)));
  }
  return out;
}

}  // namespace

Image decode_png(std::string_view bytes, const std::string& name, int& orientation) {
  Source source{bytes};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  if (!info) throw Error(name + ": libpng cannot start");
  Image image;
  std::vector<png_bytep> rows;
  bool too_large = false, grey16 = false;
  std::string_view exif;
  bool ok = decode(png, info, source, image, rows, too_large, grey16, exif);
  if (ok && !exif.empty()) orientation = read_orientation(exif);
  png_destroy_read_struct(&png, &info, nullptr);
  if (!ok) throw FormatError(name + ": not a whole PNG: " + printable(source.message));
  if (too_large) check_size(uint64_t(image.width), uint64_t(image.height), name);
  return grey16 ? clip_grey16(image) : image;
}

void write_png(const std::filesystem::path& path, const Image& image) {
  if (image.channels != 1 && image.channels != 3)
    throw ArgumentError(path.string() + ": a PNG is written from 1 or 3 channels");
  if (image.width < 1 || image.height < 1 ||
      image.pixels.size() != size_t(image.width) * size_t(image.height) * size_t(image.channels))
    throw ArgumentError(path.string() + ": the image's size and pixels do not agree");
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = png_uint_32(image.width);
  header.height = png_uint_32(image.height);
  header.format = image.channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  png_alloc_size_t size = 0;
  if (!png_image_write_to_memory(&header, nullptr, &size, 0, image.pixels.data(), 0, nullptr))
    throw Error(path.string() + ": " + header.message);
  std::string bytes(size, '\0');
  if (!png_image_write_to_memory(&header, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr))
    throw Error(path.string() + ": " + header.message);
  write_file_atomically(path, bytes.substr(0, size));
}

}  // namespace pretrained::vision
