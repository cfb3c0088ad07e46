// What is taken for an LFS pointer is one, byte for byte.
#include <cstdint>
#include <string_view>

#include "server/git/git_store.h"

using namespace pretrained::server;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto pointer = LfsPointer::parse({reinterpret_cast<const char*>(data), size});
  if (!pointer) return 0;
  if (pointer->sha256.size() != 64) __builtin_trap();
  auto again = LfsPointer::parse(pointer->text());
  if (!again || again->sha256 != pointer->sha256 || again->size != pointer->size) __builtin_trap();
  return 0;
}
