#pragma once
// One function per format, for image.cpp. `orientation` becomes the EXIF orientation where the file
// has one.

#include <string>
#include <string_view>

#include "pretrained/vision/image.h"

namespace pretrained::vision {

Image decode_jpeg(std::string_view bytes, const std::string& name, int& orientation);
Image decode_png(std::string_view bytes, const std::string& name, int& orientation);
Image decode_webp(std::string_view bytes, const std::string& name, int& orientation);

// Throws FormatError for a picture that is too large to be decoded safely.
void check_size(uint64_t width, uint64_t height, const std::string& name);
// Of an EXIF block that starts with its TIFF header; 1 where it says nothing.
int read_orientation(std::string_view tiff);

}  // namespace pretrained::vision
