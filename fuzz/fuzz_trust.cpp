// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"
#include "pretrained/code/diff.h"
#include "pretrained/code/trust.h"

using namespace pretrained;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    for (auto& entry : code::parse_trust(text, "fuzz"))
      if (entry.sha256.size() != 64 || entry.repository.empty()) __builtin_trap();
  } catch (const Error&) {
  }
  if (auto sources = code::parse_frames(text)) {
    if (code::frame_sources(*sources) != text) __builtin_trap();
    code::find_hints(*sources);
    if (code::unified_diff({}, *sources).find('\x1b') != std::string::npos) __builtin_trap();
  }
  return 0;
}
