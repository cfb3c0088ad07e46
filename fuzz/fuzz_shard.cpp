// Any bytes give a result or a pretrained::Error; what was read is written and read again as it is.
#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"
#include "pretrained/xet/shard.h"

using namespace pretrained;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  xet::Shard shard;
  try {
    shard = xet::parse_shard({reinterpret_cast<const char*>(data), size});
  } catch (const Error&) {
    return 0;
  }
  auto again = xet::parse_shard(xet::serialize_shard(shard));
  if (again.files != shard.files || again.xorbs != shard.xorbs) __builtin_trap();
  again = xet::parse_shard(xet::serialize_dedup_shard(shard, {}));
  if (again.files != shard.files || again.xorbs != shard.xorbs) __builtin_trap();
  return 0;
}
