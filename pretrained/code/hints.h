#pragma once
// What a reader of foreign code may want to look at first. A hint and no check: code that means
// harm can do without any of these words, and harmless code may use them all.

#include <string>
#include <vector>

#include "pretrained/code/closure.h"

namespace pretrained::code {

struct Hint {
  std::string what;  // "network", "starts programs", "loads libraries", "assembly", "files",
                     // "threads", "environment", "raw memory", "attributes", "pragma",
                     // "hidden characters", "long line"
  std::string path;
  size_t line = 0;
  std::string text;  // the line, made printable
};

// Line by line, comments and texts included; at most `limit`.
PRETRAINED_API std::vector<Hint> find_hints(const Sources& sources, size_t limit = 100);

}  // namespace pretrained::code
