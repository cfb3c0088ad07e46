#include "pretrained/base/error.h"

#include <cstdio>

namespace pretrained {
namespace {

// The code point that starts at text[i] and its length, or length 0 where the bytes are not UTF-8.
std::pair<uint32_t, size_t> decode(std::string_view text, size_t i) {
  auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
  unsigned char lead = byte(i);
  if (lead < 0x80) return {lead, 1};
  size_t length = lead >= 0xF0 && lead < 0xF5 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (lead >= 0xF5 || length == 0 || i + length > text.size()) return {0, 0};
  uint32_t code = lead & (0xFF >> (length + 1));
  for (size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return {0, 0};
    code = code << 6 | (byte(i + k) & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
    return {0, 0};
  return {code, length};
}

bool is_unsafe(uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C ||
         (code >= 0x200B && code <= 0x200F) || (code >= 0x2028 && code <= 0x202E) ||
         (code >= 0x2060 && code <= 0x206F) || code == 0xFEFF ||
         (code >= 0xE0000 && code <= 0xE007F);
}

}  // namespace

std::string printable(const std::string& text, size_t limit) {
  std::string out;
  char escape[16];
  for (size_t i = 0; i < text.size();) {
    if (out.size() >= limit) return out + "…";
    auto [code, length] = decode(text, i);
    if (length == 0) {
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned char>(text[i++]));
      out += escape;
      continue;
    }
    if (!is_unsafe(code)) {
      out += text.substr(i, length);
    } else if (code < 0x100) {
      std::snprintf(escape, sizeof escape, "\\x%02x", code);
      out += escape;
    } else {
      std::snprintf(escape, sizeof escape, "\\u{%04x}", code);
      out += escape;
    }
    i += length;
  }
  return out;
}

size_t utf8_length(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    size_t length = decode(text, i).second;
    if (length == 0) break;
    i += length;
  }
  return i;
}

}  // namespace pretrained
