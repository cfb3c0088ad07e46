#include <string_view>

#include "pretrained/hub/download.h"

namespace pretrained::hub {
namespace {

// The set that begins behind '[' at `at`: its end, and whether it holds `c`. Without an end '[' is
// a character as any other.
struct Set {
  size_t end = std::string_view::npos;
  bool holds = false;
};

Set match_set(std::string_view pattern, size_t at, char c) {
  size_t begin = at;
  bool negated = begin < pattern.size() && pattern[begin] == '!';
  if (negated) ++begin;
  // A ']' that comes first belongs to the set.
  size_t close = pattern.find(']', begin + 1);
  if (begin >= pattern.size() || close == pattern.npos) return {};
  bool holds = false;
  for (size_t i = begin; i < close; ++i) {
    auto low = static_cast<unsigned char>(pattern[i]), high = low;
    if (i + 2 < close && pattern[i + 1] == '-') {
      high = static_cast<unsigned char>(pattern[i + 2]);
      i += 2;
    }
    auto value = static_cast<unsigned char>(c);
    holds = holds || (low <= value && value <= high);
  }
  return {close + 1, holds != negated};
}

// With one place to go back to, the last '*': linear in practice, never exponential.
bool match(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = pattern.npos, from = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      from = t;
      continue;
    }
    size_t next = pattern.npos;
    if (p < pattern.size()) {
      Set set = pattern[p] == '[' ? match_set(pattern, p + 1, text[t]) : Set{};
      if (set.end != pattern.npos)
        next = set.holds ? set.end : pattern.npos;
      else if (pattern[p] == '?' || pattern[p] == text[t])
        next = p + 1;
    }
    if (next != pattern.npos) {
      p = next;
      ++t;
    } else if (star != pattern.npos) {
      p = star;
      t = ++from;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

bool matches_any(const std::string& path, const std::vector<std::string>& patterns) {
  for (auto& pattern : patterns)
    if (match(path, pattern.ends_with('/') ? pattern + "*" : pattern)) return true;
  return false;
}

}  // namespace pretrained::hub
