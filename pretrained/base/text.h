#pragma once
// Help with misspelt words.

#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained {

// Of those that differ from `word` in at most two letters the nearest, else "".
PRETRAINED_API std::string near_match(const std::string& word,
                                      const std::vector<std::string>& known);
// "; did you mean 'main'?" for the end of a message, or "".
PRETRAINED_API std::string suggestion(const std::string& word,
                                      const std::vector<std::string>& known);

}  // namespace pretrained
