#include "pretrained/base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

namespace pretrained {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxDigits = 4300;  // Python's own limit for int(str)
constexpr auto kFloatKey = "__float__";

// Builds Json values from nlohmann's event parser, which keeps the digits of numbers and lets us
// see every key.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(std::string_view text, const std::string& source) : text_(text), source_(source) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(Json()); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(int64_t{value})); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > uint64_t(std::numeric_limits<int64_t>::max()))
      return add(Json(BigInteger{std::to_string(value)}));
    return add(Json(int64_t(value)));
  }
  bool number_float(number_float_t value, const string_t& digits) override {
    if (digits.find_first_of(".eE") != std::string::npos) return add(Json(value));
    if (digits.size() > kMaxDigits)
      fail("an integer of " + std::to_string(digits.size()) + " digits is too long");
    return add(Json(BigInteger{digits}));
  }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json(Json::Object{})); }
  bool start_array(size_t) override { return open(Json(Json::Array{})); }
  bool end_array() override { return close(); }
  bool end_object() override {
    auto& object = *stack_.back().get_if<Json::Object>();
    auto* word = object.size() == 1 ? stack_.back().find(kFloatKey) : nullptr;
    if (auto* text = word ? word->get_if<std::string>() : nullptr) {
      const std::string name = *text;  // replacing the object ends its members
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      if (name == "Infinity") stack_.back() = Json(kInfinity);
      if (name == "-Infinity") stack_.back() = Json(-kInfinity);
      if (name == "NaN") stack_.back() = Json(std::numeric_limits<double>::quiet_NaN());
    }
    return close();
  }
  bool key(string_t& value) override {
    if (stack_.back().find(value))
      fail("the key '" + printable(value) + "' stands twice in one object");
    keys_.back() = std::move(value);
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    if (auto at = what.find("syntax error"); at != std::string::npos) what = what.substr(at);
    size_t line = 1, column = 1;
    for (size_t i = 0; i + 1 < position && i < text_.size(); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n';
    }
    fail("line " + std::to_string(line) + ", column " + std::to_string(column) + ": " +
         printable(what, 300));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(source_ + ": not valid JSON: " + what);
  }

  bool add(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (auto* array = stack_.back().get_if<Json::Array>()) {
      array->push_back(std::move(value));
    } else {
      stack_.back().get_if<Json::Object>()->emplace(std::move(keys_.back()), std::move(value));
    }
    return true;
  }
  bool open(Json container) {
    if (stack_.size() == kMaxDepth)
      fail("nested deeper than " + std::to_string(kMaxDepth) + " levels");
    stack_.push_back(std::move(container));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    Json value = std::move(stack_.back());
    stack_.pop_back();
    keys_.pop_back();
    return add(std::move(value));
  }

  std::string_view text_;
  const std::string& source_;
  Json root_;
  std::vector<Json> stack_;
  std::vector<std::string> keys_;
};

// Python also reads the bare words NaN, Infinity and -Infinity: spelled here as Transformers writes
// them today.
std::string spell_out_non_finite(std::string_view text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      out += text[i++];
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      bool found = false;
      for (std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
        if (text.substr(i, word.size()) != word) continue;
        out += "{\"__float__\":\"" + std::string(word) + "\"}";
        i += word.size() - 1;
        found = true;
        break;
      }
      if (found) continue;
    }
    out += text[i];
  }
  return out;
}

void write_string(const std::string& text, std::string& out) {
  // nlohmann escapes as Python's ensure_ascii does, lower-case hexadecimal and surrogate pairs
  // included.
  out += nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

void write_value(const Json& value, int indent, int level, std::string& out);
void write_labels(const Json& labels, int indent, int level, std::string& out);

// One list or object; `write_item(i)` writes the i-th element.
template <class Items, class WriteItem>
void write_items(const Items& items, char open, char close, int indent, int level, std::string& out,
                 WriteItem write_item) {
  out += open;
  auto new_line = [&](int depth) {
    if (indent) out += "\n" + std::string(size_t(indent * depth), ' ');
  };
  bool first = true;
  for (auto& item : items) {
    if (!first) out += indent ? "," : ", ";
    first = false;
    new_line(level + 1);
    write_item(item);
  }
  if (!items.empty()) new_line(level);
  out += close;
}

void write_value(const Json& value, int indent, int level, std::string& out) {
  if (value.is_null()) out += "null";
  if (auto* boolean = value.get_if<bool>()) out += *boolean ? "true" : "false";
  if (auto* integer = value.get_if<int64_t>()) out += std::to_string(*integer);
  if (auto* big = value.get_if<BigInteger>()) out += big->digits;
  if (auto* text = value.get_if<std::string>()) write_string(*text, out);
  if (auto* number = value.get_if<double>()) {
    if (std::isfinite(*number)) {
      out += python_repr(*number);
    } else {
      const char* name = std::isnan(*number) ? "NaN" : *number > 0 ? "Infinity" : "-Infinity";
      write_value(Json::Object{{kFloatKey, name}}, indent, level, out);
    }
  }
  if (auto* array = value.get_if<Json::Array>())
    write_items(*array, '[', ']', indent, level, out,
                [&](const Json& item) { write_value(item, indent, level + 1, out); });
  if (auto* object = value.get_if<Json::Object>()) {
    auto write_member = [&](const auto& item) {
      write_string(item.first, out);
      out += ": ";
      if (item.first == "id2label") {
        write_labels(item.second, indent, level + 1, out);
      } else {
        write_value(item.second, indent, level + 1, out);
      }
    };
    write_items(*object, '{', '}', indent, level, out, write_member);
  }
}

// Python holds id2label by integers and sorts it so: 2 before 10.
void write_labels(const Json& labels, int indent, int level, std::string& out) {
  std::vector<std::pair<std::string, const Json*>> members;
  bool integers = labels.get_if<Json::Object>() != nullptr;
  if (integers) {
    for (auto& [key, value] : *labels.get_if<Json::Object>()) {
      integers = integers && !key.empty() && key.size() <= 18 &&
                 key.find_first_not_of("0123456789") == key.npos;
      members.emplace_back(key, &value);
    }
  }
  if (!integers) return write_value(labels, indent, level, out);
  std::sort(members.begin(), members.end(),
            [](auto& a, auto& b) { return std::stoll(a.first) < std::stoll(b.first); });
  write_items(members, '{', '}', indent, level, out, [&](const auto& item) {
    write_string(item.first, out);
    out += ": ";
    write_value(*item.second, indent, level + 1, out);
  });
}

}  // namespace

Json Json::parse(std::string_view text, const std::string& source, size_t limit) {
  if (text.size() > limit)
    throw FormatError(source + ": " + std::to_string(text.size()) + " bytes of JSON, at most " +
                      std::to_string(limit) + " are read");
  if (text.substr(0, 3) == "\xEF\xBB\xBF")
    throw FormatError(source +
                      ": not valid JSON: starts with a byte order mark; save it as plain UTF-8");
  std::string spelled;
  if (text.find("NaN") != text.npos || text.find("Infinity") != text.npos) {
    spelled = spell_out_non_finite(text);
    text = spelled;
  }
  Builder builder(text, source);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

const Json* Json::find(const std::string& key) const {
  auto* object = get_if<Object>();
  if (!object) return nullptr;
  auto it = object->find(key);
  return it == object->end() ? nullptr : &it->second;
}

const char* Json::kind() const {
  constexpr const char* kKinds[] = {"null",     "a boolean", "an integer", "an integer",
                                    "a number", "a string",  "a list",     "an object"};
  static_assert(std::size(kKinds) == std::variant_size_v<decltype(value_)>);
  return kKinds[value_.index()];
}

std::string Json::dump(int indent) const {
  std::string out;
  write_value(*this, indent, 0, out);
  return out;
}

bool Json::operator==(const Json& other) const {
  auto* a = get_if<double>();
  auto* b = other.get_if<double>();
  if (a && b && std::isnan(*a) && std::isnan(*b)) return true;
  return value_ == other.value_;
}

std::string python_repr(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
  char buffer[64];
  auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string shortest(buffer, end), digits;
  bool negative = shortest[0] == '-';
  auto e = shortest.find('e');
  int exponent = std::atoi(shortest.c_str() + e + 1);
  for (char c : shortest.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  std::string out = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    std::snprintf(buffer, sizeof buffer, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    out += digits.substr(0, 1) + (digits.size() > 1 ? "." + digits.substr(1) : "") + buffer;
  } else if (exponent < 0) {
    out += "0." + std::string(size_t(-exponent - 1), '0') + digits;
  } else if (int(digits.size()) <= exponent + 1) {
    out += digits + std::string(size_t(exponent) + 1 - digits.size(), '0') + ".0";
  } else {
    out += digits.substr(0, size_t(exponent) + 1) + "." + digits.substr(size_t(exponent) + 1);
  }
  return out;
}

}  // namespace pretrained
