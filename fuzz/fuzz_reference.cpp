// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/code/reference.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    auto reference = pretrained::code::parse_reference(std::string(text), "fuzz");
    if (reference.text() != text || reference.module.find("..") != std::string::npos)
      __builtin_trap();
  } catch (const pretrained::Error&) {
  }
  return 0;
}
