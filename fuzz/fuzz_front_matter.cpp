// Any README gives JSON that can be written and read again, or a FormatError of one line.
#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"
#include "server/repos/repos.h"

using namespace pretrained;
using namespace pretrained::server;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view readme(reinterpret_cast<const char*>(data), size);
  check_card(readme, "model");
  try {
    Json card = parse_front_matter(readme, "README.md");
    if (!(Json::parse(card.dump(0), "again") == card)) __builtin_trap();
  } catch (const FormatError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) __builtin_trap();
  }
  return 0;
}
