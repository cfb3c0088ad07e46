// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/safetensors/pickle.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    for (auto& tensor : pretrained::safetensors::read_pickle(text, "fuzz"))
      if (tensor.begin > text.size()) __builtin_trap();
  } catch (const pretrained::Error&) {
  }
  return 0;
}
