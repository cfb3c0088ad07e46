// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/base/json.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    auto json = pretrained::Json::parse(text, "fuzz");
    // What was read is written so that it reads back the same.
    if (!(pretrained::Json::parse(json.dump(), "again") == json)) __builtin_trap();
  } catch (const pretrained::Error&) {
  }
  return 0;
}
