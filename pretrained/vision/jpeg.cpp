#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>

#include "pretrained/base/error.h"
#include "pretrained/vision/codecs.h"

namespace pretrained::vision {
namespace {

struct ErrorHandler {
  jpeg_error_mgr manager;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  bool too_many_scans;
};

// Every scan of a progressive JPEG goes over the whole picture again, and one takes 95 bytes.
// Photographs have about a dozen; the bounds are libjpeg-turbo's -maxscans 500 and 22 scans of the
// largest picture.
constexpr int kMaxScans = 500;
constexpr uint64_t kMaxScannedPixels = 4'000'000'000;

void on_progress(j_common_ptr common) {
  auto* info = reinterpret_cast<jpeg_decompress_struct*>(common);
  auto* handler = reinterpret_cast<ErrorHandler*>(info->err);
  uint64_t scans = uint64_t(info->input_scan_number),
           pixels = uint64_t(info->image_width) * info->image_height;
  if (scans <= kMaxScans && scans * pixels <= kMaxScannedPixels) return;
  handler->too_many_scans = true;
  longjmp(handler->jump, 1);
}

void on_error(j_common_ptr info) {
  auto* handler = reinterpret_cast<ErrorHandler*>(info->err);
  info->err->format_message(info, handler->message);
  longjmp(handler->jump, 1);
}

// libjpeg pads a truncated file with grey and only warns; Pillow and we refuse it.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  if (info->err->msg_code == JWRN_JPEG_EOF) on_error(info);
}

void find_orientation(const jpeg_decompress_struct& info, int& orientation) {
  for (auto* marker = info.marker_list; marker; marker = marker->next) {
    std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (marker->marker == JPEG_APP0 + 1 && data.substr(0, 6) == std::string_view("Exif\0\0", 6)) {
      orientation = read_orientation(data.substr(6));
      return;
    }
  }
}

// Only plain data lives in this frame: an error jumps out of it.
bool decode(std::string_view bytes, jpeg_decompress_struct& info, ErrorHandler& handler,
            jpeg_progress_mgr& progress, Image& image, int& orientation, bool& too_large) {
  if (setjmp(handler.jump)) return false;
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&info, TRUE);
  find_orientation(info, orientation);
  too_large = uint64_t(info.image_width) * info.image_height > 178'956'970;
  if (too_large) return true;
  bool four = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = four                                     ? JCS_CMYK
                         : info.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE
                                                                  : JCS_RGB;
  info.progress = &progress;
  jpeg_start_decompress(&info);
  image.width = int(info.output_width);
  image.height = int(info.output_height);
  image.channels = info.output_components;
  image.pixels.resize(size_t(image.width) * size_t(image.height) * size_t(image.channels));
  while (info.output_scanline < info.output_height) {
    JSAMPROW row =
        &image.pixels[size_t(info.output_scanline) * size_t(image.width) * size_t(image.channels)];
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  return true;
}

Image to_rgb(const Image& image, bool inverted) {
  Image out{image.width, image.height, 3, {}};
  size_t count = size_t(image.width) * size_t(image.height);
  out.pixels.resize(count * 3);
  auto clip8_multiply = [](int a, int b) {  // Pillow's MULDIV255
    int t = a * b + 128;
    return uint8_t(((t >> 8) + t) >> 8);
  };
  for (size_t i = 0; i < count; ++i)
    for (size_t c = 0; c < 3; ++c) {
      if (image.channels == 1) {
        out.pixels[i * 3 + c] = image.pixels[i];
      } else {
        int ink = image.pixels[i * 4 + c], black = image.pixels[i * 4 + 3];
        if (inverted) ink = 255 - ink, black = 255 - black;
        int white = 255 - black;
        int value = white - clip8_multiply(ink, white);  // Pillow's cmyk2rgb
        out.pixels[i * 3 + c] = uint8_t(std::max(0, std::min(255, value)));
      }
    }
  return out;
}

}  // namespace

Image decode_jpeg(std::string_view bytes, const std::string& name, int& orientation) {
  jpeg_decompress_struct info{};
  ErrorHandler handler{};
  jpeg_progress_mgr progress{};
  progress.progress_monitor = on_progress;
  info.err = jpeg_std_error(&handler.manager);
  handler.manager.error_exit = on_error;
  handler.manager.emit_message = on_message;
  Image image;
  bool too_large = false;
  bool ok = decode(bytes, info, handler, progress, image, orientation, too_large);
  bool adobe = info.saw_Adobe_marker;
  uint64_t width = info.image_width, height = info.image_height;
  int scans = info.input_scan_number;
  jpeg_destroy_decompress(&info);
  if (handler.too_many_scans)
    throw FormatError(name + ": a progressive JPEG of " + std::to_string(width) + " × " +
                      std::to_string(height) + " pixels with " + std::to_string(scans) +
                      " or more scans is not decoded: at most " + std::to_string(kMaxScans) +
                      ", and " + std::to_string(kMaxScannedPixels) +
                      " pixels over all scans; save it again as baseline JPEG");
  if (!ok) throw FormatError(name + ": not a whole JPEG: " + printable(handler.message));
  if (too_large) check_size(width, height, name);
  return image.channels == 3 ? image : to_rgb(image, adobe);
}

}  // namespace pretrained::vision
