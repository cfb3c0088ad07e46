#pragma once
// JSON values as Transformers reads and writes them. Writing is byte for byte what Python's
// `json.dumps(x, indent=2, sort_keys=True) + "\n"` gives, floats by repr, infinities and NaN as
// {"__float__": "Infinity"}, and the members of `id2label` ordered as integers. Reading takes what
// Python takes, within limits, and refuses duplicate keys. Values are plain data: copy, compare and
// share between threads like a std::map. Mirrors https://docs.python.org/3/library/json.html and
// transformers/configuration_utils.py.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pretrained/base/error.h"
#include "pretrained/base/export.h"

namespace pretrained {

// An integer beyond 64 bits, kept as its digits so that a round trip is exact.
struct BigInteger {
  std::string digits;
  bool operator==(const BigInteger&) const = default;
};

class PRETRAINED_API Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(int64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(BigInteger value) : value_(std::move(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  // Throws FormatError: "<source>: line 3, column 7: …". At most `limit` bytes, 64 levels;
  // duplicate keys are an error.
  static Json parse(std::string_view text, const std::string& source, size_t limit = 16 << 20);

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  template <class T>
  const T* get_if() const {
    return std::get_if<T>(&value_);
  }
  template <class T>
  T* get_if() {
    return std::get_if<T>(&value_);
  }
  // The member of an object, or nullptr where there is none or this is no object.
  const Json* find(const std::string& key) const;

  // "null", "a boolean", "an integer", "a number", "a string", "a list", "an object": for error
  // messages.
  const char* kind() const;
  // indent > 0 puts every element on its own line, as Python's indent=; 0 writes one line with ", "
  // and ": ".
  std::string dump(int indent = 2) const;

  // NaN equals NaN here: two configs read from the same bytes are equal.
  bool operator==(const Json& other) const;

 private:
  std::variant<std::monostate, bool, int64_t, BigInteger, double, std::string, Array, Object>
      value_;
};

// repr(float) of Python: the shortest digits that read back, "1e+16", "-0.0", "0.0001", "1e-05".
PRETRAINED_API std::string python_repr(double value);

}  // namespace pretrained
