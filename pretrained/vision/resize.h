#pragma once
// Resize of 8-bit images, bit-equal to Pillow 13's `Image.resize` (torch's antialias is not).
#include <cstdint>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::vision {

enum class Interpolation { bilinear, bicubic, lanczos, box, hamming };

// `pixels` holds height*width*channels bytes, rows top to bottom, channels interleaved. Colours of
// an image with alpha must be premultiplied first, as Pillow does. Returns
// new_height*new_width*channels bytes. Throws pretrained::ArgumentError when a size is not
// in 1..65535, channels not in 1..4, or `pixels` has another length. Reentrant. Mirrors
// https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c
PRETRAINED_API std::vector<uint8_t> resize(const std::vector<uint8_t>& pixels, int width,
                                           int height, int channels, int new_width, int new_height,
                                           Interpolation interpolation);

}  // namespace pretrained::vision
