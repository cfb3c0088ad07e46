#include "server/http/router.h"

#include <algorithm>
#include <stdexcept>

namespace pretrained::server {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0;;) {
    size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == text.npos) return parts;
    begin = end + 1;
  }
}

}  // namespace

Pattern::Pattern(const std::string& text) {
  for (auto& part : split(text, '/')) {
    if (part.empty()) continue;
    auto bad = [&] { return std::invalid_argument("bad route pattern '" + text + "'"); };
    if (!segments_.empty() && segments_.back().rest) throw bad();
    Segment segment;
    size_t close = part.find('}');
    if (part[0] != '{') {
      segment.literal = part;
      if (part.find_first_of("{}") != part.npos) throw bad();
    } else {
      if (close == part.npos) throw bad();
      segment.name = part.substr(1, close - 1);
      segment.suffix = part.substr(close + 1);
      if (size_t colon = segment.name.find(':'); colon != segment.name.npos) {
        segment.choices = split(segment.name.substr(colon + 1), '|');
        segment.name.resize(colon);
      } else if (segment.name.ends_with("...")) {
        segment.rest = true;
        segment.name.resize(segment.name.size() - 3);
      }
      if (segment.name.empty() || (segment.rest && !segment.suffix.empty())) throw bad();
    }
    segments_.push_back(std::move(segment));
  }
}

bool Pattern::match(const std::vector<std::string>& segments, Captures& captures) const {
  bool open = !segments_.empty() && segments_.back().rest;
  if (open ? segments.size() < segments_.size() : segments.size() != segments_.size()) return false;
  for (size_t i = 0; i < segments_.size(); ++i) {
    auto& expected = segments_[i];
    auto& found = segments[i];
    if (expected.rest) {
      captures.rest.assign(segments.begin() + long(i), segments.end());
    } else if (expected.name.empty()) {
      if (found != expected.literal) return false;
    } else {
      if (found.size() <= expected.suffix.size() || !found.ends_with(expected.suffix)) return false;
      std::string value = found.substr(0, found.size() - expected.suffix.size());
      auto& choices = expected.choices;
      if (!choices.empty() && std::find(choices.begin(), choices.end(), value) == choices.end())
        return false;
      captures.named[expected.name] = std::move(value);
    }
  }
  return true;
}

}  // namespace pretrained::server
