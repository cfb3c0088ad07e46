#include "server/api/path_rules.h"

#include <algorithm>
#include <sstream>

#include "pretrained/base/error.h"

namespace pretrained::server {
namespace {

constexpr size_t kRulesLimit = 2'000, kPatternLimit = 1'024;
constexpr std::ptrdiff_t kDepthLimit = 64;
constexpr uint64_t kWorkLimit = 100'000'000;  // under a second

// The end of the bracket expression at `at`, or npos where it is not closed.
size_t bracket_end(std::string_view glob, size_t at) {
  size_t i = at + 1;
  if (i < glob.size() && (glob[i] == '!' || glob[i] == '^')) ++i;
  if (i < glob.size() && glob[i] == ']') ++i;
  while (i < glob.size() && glob[i] != ']') i += glob[i] == '\\' ? 2 : 1;
  return i < glob.size() ? i : glob.npos;
}

bool bracket_matches(std::string_view set, char c) {
  bool negated = !set.empty() && (set[0] == '!' || set[0] == '^');
  if (negated) set.remove_prefix(1);
  bool found = false;
  for (size_t i = 0; i < set.size(); ++i) {
    if (set[i] == '\\' && i + 1 < set.size()) ++i;
    char low = set[i], high = low;
    if (i + 2 < set.size() && set[i + 1] == '-') {
      high = set[i + 2];
      i += 2;
    }
    found = found || (c >= low && c <= high);
  }
  return found != negated;
}

// What may follow each place of `text`: one step of the glob at a time over all of them.
struct Places {
  std::vector<char> here;
  explicit Places(size_t size) : here(size + 1, 0) { here[0] = 1; }
  template <class F>
  void step(std::string_view text, F&& accepts) {
    for (size_t i = text.size(); i > 0; --i) here[i] = here[i - 1] && accepts(text[i - 1]);
    here[0] = 0;
  }
  template <class F>
  void repeat(std::string_view text, F&& accepts) {
    for (size_t i = 0; i < text.size(); ++i)
      if (here[i] && accepts(text[i])) here[i + 1] = 1;
  }
  // "**/": nothing, or everything up to some '/'.
  void folders(std::string_view text) {
    bool open = false;
    for (size_t i = 0; i <= text.size(); ++i) {
      if (i > 0 && open && text[i - 1] == '/') here[i] = 1;
      open = open || here[i];
    }
  }
};

}  // namespace

bool glob_match(std::string_view glob, std::string_view text) {
  auto any = [](char) { return true; };
  auto no_slash = [](char c) { return c != '/'; };
  Places places(text.size());
  for (size_t i = 0; i < glob.size(); ++i) {
    char c = glob[i];
    bool starts_part = i == 0 || glob[i - 1] == '/';
    if (c == '*' && starts_part && glob.substr(i, 3) == "**/") {
      places.folders(text);
      i += 2;
    } else if (c == '*' && starts_part && glob.substr(i) == "**") {
      places.repeat(text, any);
      ++i;
    } else if (c == '*') {
      places.repeat(text, no_slash);
    } else if (c == '?') {
      places.step(text, no_slash);
    } else if (size_t end; c == '[' && (end = bracket_end(glob, i)) != glob.npos) {
      auto set = glob.substr(i + 1, end - i - 1);
      places.step(text, [&](char t) { return t != '/' && bracket_matches(set, t); });
      i = end;
    } else {
      if (c == '\\' && i + 1 < glob.size()) c = glob[++i];
      places.step(text, [&](char t) { return t == c; });
    }
  }
  return places.here[text.size()];
}

PathPattern::PathPattern(std::string_view text) {
  if (text.size() > kPatternLimit) text = "";
  if (text.ends_with('/')) {
    only_folders_ = true;
    text.remove_suffix(1);
  }
  anchored_ = text.find('/') != text.npos;
  if (text.starts_with('/')) text.remove_prefix(1);
  glob_ = text;
}

bool PathPattern::matches(std::string_view path, bool is_folder) const {
  if (glob_.empty() || (only_folders_ && !is_folder)) return false;
  size_t slash = path.rfind('/');
  if (!anchored_ && slash != path.npos) path.remove_prefix(slash + 1);
  return glob_match(glob_, path);
}

const std::vector<PathRules::Rule>& PathRules::rules(const std::string& folder) {
  auto known = folders_.find(folder);
  if (known == folders_.end()) {
    auto text = read_(folder);
    known = folders_.emplace(folder, text ? parse(*text) : std::vector<Rule>{}).first;
  }
  return known->second;
}

std::optional<std::string> PathRules::find(const std::string& path, bool is_folder) {
  if (std::count(path.begin(), path.end(), '/') > kDepthLimit) return std::nullopt;
  size_t slash = path.rfind('/');
  while (true) {
    const auto& here = rules(slash == path.npos ? "" : path.substr(0, slash));
    auto inside = std::string_view(path).substr(slash == path.npos ? 0 : slash + 1);
    for (auto rule = here.rbegin(); rule != here.rend(); ++rule) {
      work_ += rule->pattern.size() * inside.size();
      if (work_ > kWorkLimit)
        throw FormatError("the patterns of .gitattributes or .gitignore take too long to match");
      if (rule->pattern.matches(inside, is_folder)) return rule->value;
    }
    if (slash == path.npos || slash == 0) return std::nullopt;
    slash = path.rfind('/', slash - 1);
  }
}

std::optional<bool> AttributeRules::is_lfs(const std::string& path) {
  auto filter = find(path, false);
  if (!filter) return std::nullopt;
  return *filter == "lfs";
}

std::vector<PathRules::Rule> AttributeRules::parse(const std::string& text) const {
  std::vector<Rule> rules;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && rules.size() < kRulesLimit;) {
    std::istringstream words(line);
    std::string pattern, word;
    words >> pattern;
    if (pattern.empty() || pattern[0] == '#' || pattern[0] == '!') continue;
    std::optional<std::string> filter;
    while (words >> word) {
      if (word.starts_with("filter=")) filter = word.substr(7);
      if (word == "-filter" || word == "!filter") filter = "";
    }
    if (filter) rules.push_back({PathPattern(pattern), *filter});
  }
  return rules;
}

bool IgnoreRules::ignored(const std::string& path) {
  // Nothing below an ignored folder can be taken back.
  for (size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1))
    if (find(path.substr(0, slash), true) == "ignore") return true;
  return find(path, false) == "ignore";
}

std::vector<PathRules::Rule> IgnoreRules::parse(const std::string& text) const {
  std::vector<Rule> rules;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && rules.size() < kRulesLimit;) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    bool keep = line[0] == '!';
    rules.push_back({PathPattern(std::string_view(line).substr(keep)), keep ? "keep" : "ignore"});
  }
  return rules;
}

}  // namespace pretrained::server
