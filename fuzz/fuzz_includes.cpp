// Any text gives a list or a FormatError, and no listed name is absolute.
#include "pretrained/code/includes.h"

#include <cstdint>
#include <string>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  try {
    for (auto& include : pretrained::code::scan_includes(text, "a.h")) {
      if (include.name.empty() || include.name[0] == '/' || include.line == 0) __builtin_trap();
      if (!include.quoted && !pretrained::code::is_known_header(include.name)) __builtin_trap();
    }
  } catch (const pretrained::FormatError&) {
  }
  return 0;
}
