// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/code/elf.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  pretrained::code::read_note(text);
  pretrained::code::read_soname(text);
  try {
    pretrained::code::audit(text, "answer", {});
    // What passes names its one function.
    if (text.find("answer") == text.npos) __builtin_trap();
  } catch (const pretrained::FormatError&) {
  }
  return 0;
}
