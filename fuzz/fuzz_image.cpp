// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/vision/image.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    auto image = pretrained::vision::decode_image(text, "fuzz");
    if (image.pixels.size() != size_t(image.width) * size_t(image.height) * 3) __builtin_trap();
  } catch (const pretrained::Error&) {
  }
  return 0;
}
