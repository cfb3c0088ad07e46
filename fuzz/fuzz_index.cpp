// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/safetensors/index.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    auto index = pretrained::safetensors::parse_index(std::string(text), "fuzz");
    for (auto& file : index.files())
      if (file.find(0x2F) != file.npos || file == "..") __builtin_trap();
  } catch (const pretrained::Error&) {
  }
  return 0;
}
