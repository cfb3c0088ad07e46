#include "pretrained/base/text.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "pretrained/base/error.h"

namespace pretrained {
namespace {

constexpr size_t kFar = 3, kLong = 256;  // longer words are not worth the time

size_t edit_distance(const std::string& a, const std::string& b) {
  if (a.size() >= b.size() + kFar || b.size() >= a.size() + kFar || a.size() > kLong) return kFar;
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t k = 1; k <= b.size(); ++k)
      diagonal = std::exchange(
          row[k], std::min({row[k] + 1, row[k - 1] + 1, diagonal + (a[i - 1] != b[k - 1])}));
    if (*std::min_element(row.begin(), row.end()) >= kFar) return kFar;
  }
  return row[b.size()];
}

}  // namespace

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string near_match(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t nearest = kFar;
  for (auto& candidate : known)
    if (size_t distance = edit_distance(word, candidate);
        distance < nearest && distance < candidate.size())
      nearest = distance, best = candidate;
  return best;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  std::string match = near_match(word, known);
  return match.empty() ? "" : "; did you mean '" + printable(match) + "'?";
}

}  // namespace pretrained
