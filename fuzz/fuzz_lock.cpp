// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/hub/lock.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    auto lock = pretrained::hub::parse_lock(text, "fuzz");
    for (auto& [path, file] : lock.files)
      if (path.empty() || path[0] == '/' || path.starts_with("../") || file.sha256.size() != 64)
        __builtin_trap();
    if (pretrained::hub::parse_lock(lock.text(), "again").files != lock.files) __builtin_trap();
  } catch (const pretrained::Error&) {
  }
  return 0;
}
