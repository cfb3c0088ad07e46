// Any bytes give a result or a pretrained::Error, and what is promised of a result holds.
#include "pretrained/safetensors/safetensors.h"

#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    auto header = pretrained::safetensors::parse_header(text, text.size(), "fuzz");
    uint64_t end = 0;
    for (auto& tensor : header.tensors) {
      if (tensor.begin != end || tensor.end > text.size() - header.data_begin) __builtin_trap();
      end = tensor.end;
    }
  } catch (const pretrained::Error&) {
  }
  return 0;
}
