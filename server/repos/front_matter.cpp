// The YAML at the top of a model card. yaml-cpp's parser reports events; the tree is built here, so
// that aliases are counted as what they stand for, duplicate keys are seen, and scalars are read by
// the rules of YAML 1.1 as PyYAML applies them.

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>

#include "server/repos/repos.h"

namespace pretrained::server {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxValues = 100'000;
constexpr size_t kMaxDepth = 32;

// ---- plain scalars
// -------------------------------------------------------------------------------

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  for (auto word : words)
    if (text == word) return true;
  return false;
}

std::optional<Json> read_integer(std::string_view text) {
  bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  int base = 10;
  if (text.starts_with("0x")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.starts_with("0b")) {
    base = 2;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
  }
  std::string digits;
  for (char c : text)
    if (c != '_') digits += c;
  uint64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (digits.empty() || end != digits.data() + digits.size() ||
      error == std::errc::invalid_argument)
    return std::nullopt;
  bool fits = error == std::errc() && value <= uint64_t(std::numeric_limits<int64_t>::max());
  if (fits) return Json(negative ? -int64_t(value) : int64_t(value));
  if (base != 10) return std::nullopt;
  return Json(BigInteger{(negative ? "-" : "") + digits});
}

// [-+]digits.digits[e[+-]digits], .inf and .nan; without a point it is no float, as in YAML 1.1.
std::optional<Json> read_float(std::string_view text) {
  std::string_view body = text;
  bool negative = !body.empty() && body[0] == '-';
  if (!body.empty() && (body[0] == '-' || body[0] == '+')) body.remove_prefix(1);
  if (one_of(body, {".inf", ".Inf", ".INF"})) return Json(negative ? -INFINITY : INFINITY);
  if (one_of(text, {".nan", ".NaN", ".NAN"})) return Json(NAN);
  if (body.find('.') == body.npos) return std::nullopt;
  std::string digits;
  bool any = false;
  for (size_t i = 0; i < body.size(); ++i) {
    char c = body[i];
    if (c == '_') continue;
    bool digit = c >= '0' && c <= '9';
    bool exponent = (c == 'e' || c == 'E') && any && i + 1 < body.size() &&
                    (body[i + 1] == '-' || body[i + 1] == '+');
    bool sign = (c == '-' || c == '+') && i > 0 && (body[i - 1] == 'e' || body[i - 1] == 'E');
    if (!digit && c != '.' && !exponent && !sign) return std::nullopt;
    any |= digit;
    digits += c;
  }
  if (!digits.empty() && digits.front() == '.') digits = "0" + digits;
  double value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (!any || error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return Json(negative ? -value : value);
}

Json read_plain(const std::string& text) {
  if (one_of(text, {"", "~", "null", "Null", "NULL"})) return Json();
  if (one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}))
    return Json(true);
  if (one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}))
    return Json(false);
  if (auto integer = read_integer(text)) return *integer;
  if (auto number = read_float(text)) return *number;
  return Json(text);
}

// The name of a key: PyYAML's keys may be numbers or booleans, JSON's may not.
std::string key_text(const Json& key, const std::string& written) {
  if (auto text = key.get_if<std::string>()) return *text;
  return written;
}

// ---- the tree
// -------------------------------------------------------------------------------------

class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::string source, int first_line)
      : source_(std::move(source)), first_line_(first_line) {}

  Json take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    charge(mark, 1);
    add(mark, anchor, {Json(), "", 1, 0});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto known = anchors_.find(anchor);
    // An anchor that is still open would contain itself.
    if (known == anchors_.end()) fail(mark, "alias to something that is not complete");
    charge(mark, known->second.values);
    if (open_.size() + known->second.depth > kMaxDepth) fail_depth(mark);
    add(mark, 0, known->second);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    bool plain = tag == "?" || tag.empty();
    bool text = tag == "!" || tag == "tag:yaml.org,2002:str";
    if (!plain && !text) check_tag(mark, tag);
    size_t cost = 1 + value.size() / 256;  // long texts must not multiply either
    charge(mark, cost);
    add(mark, anchor, {text ? Json(value) : read_plain(value), value, cost, 0});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(mark, tag, anchor, false);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(mark, tag, anchor, true);
  }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    bool map;
    YAML::anchor_t anchor;
    YAML::Mark mark;
    size_t values, depth;  // of itself and what it holds so far
    Json::Array list;
    Json::Object object;
    std::optional<std::string> key;
  };
  struct Item {
    Json value;
    std::string written;  // of scalars
    size_t values, depth;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what) const {
    throw FormatError(source_ + ": line " + std::to_string(mark.line + first_line_) + ", column " +
                      std::to_string(mark.column + 1) + ": " + what);
  }
  [[noreturn]] void fail_depth(const YAML::Mark& mark) const {
    fail(mark, "nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }

  // Those of YAML itself say nothing new; others would make objects.
  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    constexpr std::string_view yaml = "tag:yaml.org,2002:";
    bool known = tag.starts_with(yaml) &&
                 one_of(std::string_view(tag).substr(yaml.size()),
                        {"int", "float", "bool", "null", "timestamp", "seq", "map"});
    if (!known) fail(mark, "tag '" + printable(tag) + "' is not allowed");
  }

  // Before values are made or copied.
  void charge(const YAML::Mark& mark, size_t values) {
    total_ += values;
    if (total_ > kMaxValues) fail(mark, "more than " + std::to_string(kMaxValues) + " values");
  }

  void start(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, bool map) {
    if (tag != "?" && !tag.empty() && tag != "!") check_tag(mark, tag);
    if (open_.size() >= kMaxDepth) fail_depth(mark);
    if (!open_.empty() && open_.back().map && !open_.back().key)
      fail(mark, "expected a text as key, got a list or mapping");
    charge(mark, 1);
    open_.push_back({map, anchor, mark, 1, 1, {}, {}, std::nullopt});
  }

  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    Json value = done.map ? Json(std::move(done.object)) : Json(std::move(done.list));
    add(done.mark, done.anchor, {std::move(value), "", done.values, done.depth});
  }

  void add(const YAML::Mark& mark, YAML::anchor_t anchor, Item item) {
    if (anchor) {
      charge(mark, item.values);
      anchors_[anchor] = item;
    }
    if (open_.empty()) {
      root_ = std::move(item.value);
      return;
    }
    Open& parent = open_.back();
    parent.values += item.values;
    parent.depth = std::max(parent.depth, item.depth + 1);
    if (!parent.map) {
      parent.list.push_back(std::move(item.value));
    } else if (!parent.key) {
      if (item.depth > 0) fail(mark, "expected a text as key, got a list or mapping");
      std::string key = key_text(item.value, item.written);
      if (parent.object.count(key)) fail(mark, "key '" + printable(key) + "' occurs twice");
      parent.key = std::move(key);
    } else {
      parent.object[*parent.key] = std::move(item.value);
      parent.key.reset();
    }
  }

  std::string source_;
  int first_line_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Item> anchors_;
  size_t total_ = 0;
  Json root_;
};

struct FrontMatter {
  std::string_view yaml;
  int first_line;  // of the YAML in the file, from 1
};

bool is_line_end(char c) { return c == '\n' || c == '\r'; }

// As huggingface_hub finds it: blank space, "---" and a line end, then up to a line that is "---".
std::optional<FrontMatter> find_front_matter(std::string_view readme) {
  if (readme.starts_with("\xef\xbb\xbf")) readme.remove_prefix(3);
  size_t at = readme.find_first_not_of(" \t\r\n\f\v");
  if (at == readme.npos || !readme.substr(at).starts_with("---")) return std::nullopt;
  size_t start = at + 3;
  if (start >= readme.size() || !is_line_end(readme[start])) return std::nullopt;
  for (size_t end = start + 1; (end = readme.find("---", end)) != readme.npos; end += 3) {
    bool own_line =
        is_line_end(readme[end - 1]) && (end + 3 == readme.size() || is_line_end(readme[end + 3]));
    if (!own_line || end - 1 < start + 1) continue;
    std::string_view before = readme.substr(0, start);
    int line = 1 + int(std::count(before.begin(), before.end(), '\n'));
    return FrontMatter{readme.substr(start, end - start), line};
  }
  return std::nullopt;
}

// What PyYAML takes: UTF-8 without control characters. yaml-cpp would guess at other encodings.
void check_characters(const FrontMatter& found, const std::string& source) {
  std::string_view yaml = found.yaml;
  size_t bad = utf8_length(yaml);
  const char* what = "not UTF-8";
  for (size_t i = 0; i < bad; ++i) {
    auto c = static_cast<unsigned char>(yaml[i]);
    if ((c >= 0x20 && c != 0x7f) || c == '\t' || is_line_end(yaml[i])) continue;
    bad = i;
    what = "control characters are not allowed";
  }
  if (bad == yaml.size()) return;
  std::string_view before = yaml.substr(0, bad);
  auto line = std::count(before.begin(), before.end(), '\n') + found.first_line;
  size_t column = bad - (before.rfind('\n') + 1) + 1;
  throw FormatError(source + ": line " + std::to_string(line) + ", column " +
                    std::to_string(column) + ": " + what);
}

// ---- what cards must hold
// -----------------------------------------------------------------------------

bool is_text_or_texts(const Json& value) {
  if (value.get_if<std::string>()) return true;
  auto list = value.get_if<Json::Array>();
  if (!list) return false;
  for (const auto& item : *list)
    if (!item.get_if<std::string>()) return false;
  return true;
}

void check_fields(const Json::Object& card, CardProblems& problems) {
  for (const char* name : {"pipeline_tag", "library_name", "license_name", "license_link"}) {
    auto field = card.find(name);
    if (field != card.end() && !field->second.is_null() && !field->second.get_if<std::string>())
      problems.errors.push_back("\"" + std::string(name) + "\" must be a string");
  }
  for (const char* name : {"license", "tags", "datasets", "metrics", "base_model"}) {
    auto field = card.find(name);
    if (field != card.end() && !field->second.is_null() && !is_text_or_texts(field->second))
      problems.errors.push_back("\"" + std::string(name) +
                                "\" must be a string or a list of strings");
  }
  auto results = card.find("model-index");
  if (results == card.end() || results->second.is_null()) return;
  auto list = results->second.get_if<Json::Array>();
  if (!list) {
    problems.errors.push_back("\"model-index\" must be an array");
    return;
  }
  for (size_t i = 0; i < list->size(); ++i) {
    const Json* name = (*list)[i].find("name");
    if (!name || !name->get_if<std::string>())
      problems.errors.push_back("\"model-index[" + std::to_string(i) + "].name\" is required");
    const Json* found = (*list)[i].find("results");
    if (!found || !found->get_if<Json::Array>())
      problems.errors.push_back("\"model-index[" + std::to_string(i) +
                                "].results\" must be an array");
  }
}

}  // namespace

Json parse_front_matter(std::string_view readme, const std::string& source) {
  auto found = find_front_matter(readme);
  if (!found) return Json();
  if (found->yaml.size() > kMaxBytes)
    throw FormatError(source + ": front matter of " + std::to_string(found->yaml.size()) +
                      " bytes, at most " + std::to_string(kMaxBytes) + " are read");
  check_characters(*found, source);
  std::istringstream text{std::string(found->yaml)};
  Builder builder(source, found->first_line);
  try {
    YAML::Parser parser(text);
    parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& e) {
    throw FormatError(source + ": line " + std::to_string(e.mark.line + found->first_line) +
                      ", column " + std::to_string(e.mark.column + 1) + ": " + printable(e.msg));
  }
  Json card = builder.take();
  if (!card.is_null() && !card.get_if<Json::Object>())
    throw FormatError(source + ": front matter: expected a mapping, got " + card.kind());
  return card;
}

CardProblems check_card(std::string_view readme, const std::string& type) {
  CardProblems problems;
  try {
    Json card = parse_front_matter(readme, "README.md");
    auto fields = card.get_if<Json::Object>();
    if (fields && !fields->empty())
      check_fields(*fields, problems);
    else
      problems.warnings.push_back("empty or missing yaml metadata in repo card");
    if (type == "space" && fields && !fields->count("sdk"))
      problems.warnings.push_back("\"sdk\" is missing");
  } catch (const FormatError& e) {
    problems.errors.push_back(e.what());
  }
  return problems;
}

}  // namespace pretrained::server
