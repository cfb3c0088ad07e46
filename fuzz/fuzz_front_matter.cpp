// Any front matter gives a card or a FormatError, and a card is stored and read back the same.
#include <cstdint>
#include <string_view>

#include "pretrained/base/error.h"
#include "server/repos/repos.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pretrained;
  std::string readme = "---\n" + std::string(reinterpret_cast<const char*>(data), size) + "\n---\n";
  Json card;
  try {
    card = server::parse_front_matter(readme, "README.md");
  } catch (const FormatError&) {
    if (server::check_card(readme, "model").errors.empty()) __builtin_trap();
    return 0;
  }
  // As text: {"__float__": "Infinity"} of a card is read back as a number, and written the same.
  std::string text = card.dump(0);
  if (Json::parse(text, "again").dump(0) != text) __builtin_trap();
  server::check_card(readme, "model");
  return 0;
}
