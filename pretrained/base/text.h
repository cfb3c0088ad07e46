#pragma once
// Words: misspelt ones, and hexadecimal digits.

#include <string>
#include <string_view>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained {

// Of those that differ from `word` in at most two letters the nearest, else "".
PRETRAINED_API std::string near_match(const std::string& word,
                                      const std::vector<std::string>& known);
// "; did you mean 'main'?" for the end of a message, or "".
PRETRAINED_API std::string suggestion(const std::string& word,
                                      const std::vector<std::string>& known);

// So many lower-case hexadecimal digits and nothing else: commits (40), SHA-256 (64).
PRETRAINED_API bool is_hex(std::string_view text, size_t digits);

}  // namespace pretrained
