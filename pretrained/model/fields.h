#pragma once
// PRETRAINED_FIELDS(a, b, …): the fields of a config, named once. Reading, writing, comparing and
// checking for completeness all go through the one visitor it makes. Field types: bool, integers,
// floating point, std::string, Json, another config, and std::vector, std::optional and
// std::map<std::string, …> of these.

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "pretrained/base/json.h"

#define PRETRAINED_PARENS ()
#define PRETRAINED_EXPAND(...) PRETRAINED_E4(PRETRAINED_E4(PRETRAINED_E4(__VA_ARGS__)))
#define PRETRAINED_E4(...) PRETRAINED_E3(PRETRAINED_E3(PRETRAINED_E3(__VA_ARGS__)))
#define PRETRAINED_E3(...) PRETRAINED_E2(PRETRAINED_E2(PRETRAINED_E2(__VA_ARGS__)))
#define PRETRAINED_E2(...) PRETRAINED_E1(PRETRAINED_E1(PRETRAINED_E1(__VA_ARGS__)))
#define PRETRAINED_E1(...) __VA_ARGS__
#define PRETRAINED_EACH(m, ...) __VA_OPT__(PRETRAINED_EXPAND(PRETRAINED_EACH_(m, __VA_ARGS__)))
#define PRETRAINED_EACH_(m, x, ...) \
  m(x) __VA_OPT__(PRETRAINED_AGAIN PRETRAINED_PARENS(m, __VA_ARGS__))
#define PRETRAINED_AGAIN() PRETRAINED_EACH_
#define PRETRAINED_VISIT(x) visit(#x, self.x);
#define PRETRAINED_ONE(x) +1

#define PRETRAINED_FIELDS(...)                                                         \
  static constexpr const char* source_file() { return __FILE__; }                      \
  static constexpr int field_count = 0 PRETRAINED_EACH(PRETRAINED_ONE, __VA_ARGS__);   \
  static void each_field([[maybe_unused]] auto& self, [[maybe_unused]] auto&& visit) { \
    PRETRAINED_EACH(PRETRAINED_VISIT, __VA_ARGS__)                                     \
  }

namespace pretrained {

// Where a value stands, for messages: config.json: field 'vision_config.layers[2]'.
struct FieldPath {
  std::string source, path;
  FieldPath member(const std::string& name) const {
    return {source, path.empty() ? name : path + "." + name};
  }
  FieldPath element(size_t i) const { return {source, path + "[" + std::to_string(i) + "]"}; }
};

// Throws ConfigError "config.json: field 'layers': expected a list of integers, got a string".
[[noreturn]] PRETRAINED_API void throw_wrong_type(const FieldPath& at, const std::string& expected,
                                                  const Json& found);

class ConfigBase;
template <class T>
concept Config = std::is_base_of_v<ConfigBase, T>;

namespace detail {
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsMap : std::false_type {};
template <class T>
struct IsMap<std::map<std::string, T>> : std::true_type {};

// "integers" or "an integer".
template <class T>
std::string type_name(bool plural) {
  if constexpr (std::is_same_v<T, bool>)
    return plural ? "booleans" : "a boolean";
  else if constexpr (std::is_integral_v<T>)
    return plural ? "integers" : "an integer";
  else if constexpr (std::is_floating_point_v<T>)
    return plural ? "numbers" : "a number";
  else if constexpr (std::is_same_v<T, std::string>)
    return plural ? "strings" : "a string";
  else if constexpr (IsVector<T>::value)
    return (plural ? "lists of " : "a list of ") + type_name<typename T::value_type>(true);
  else if constexpr (IsOptional<T>::value)
    return type_name<typename T::value_type>(plural) + " or null";
  else if constexpr (IsMap<T>::value)
    return (plural ? "objects of " : "an object of ") + type_name<typename T::mapped_type>(true);
  else
    return plural ? "objects" : "an object";
}

PRETRAINED_API bool read_integer(const Json& json, int64_t smallest, int64_t largest,
                                 int64_t& value, const FieldPath&);
PRETRAINED_API bool read_number(const Json& json, double& value);
}  // namespace detail

template <class T>
void read_field(const Json& json, T& value, const FieldPath& at) {
  bool right = true;
  if constexpr (std::is_same_v<T, Json>) {
    value = json;
  } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
    if (auto* found = json.get_if<T>())
      value = *found;
    else
      right = false;
  } else if constexpr (std::is_integral_v<T>) {
    int64_t found = 0;
    right = detail::read_integer(json, int64_t(std::numeric_limits<T>::min()),
                                 sizeof(T) < 8 ? int64_t(std::numeric_limits<T>::max()) : INT64_MAX,
                                 found, at);
    if (right) value = T(found);
  } else if constexpr (std::is_floating_point_v<T>) {
    double found = 0;
    right = detail::read_number(json, found);
    if (right) value = T(found);
  } else if constexpr (detail::IsOptional<T>::value) {
    if (json.is_null()) {
      value.reset();
    } else {
      read_field(json, value.emplace(), at);
    }
  } else if constexpr (detail::IsVector<T>::value) {
    auto* items = json.get_if<Json::Array>();
    right = items != nullptr;
    if (right) {
      value.clear();
      for (size_t i = 0; i < items->size(); ++i) {
        typename T::value_type item{};
        read_field((*items)[i], item, at.element(i));
        value.push_back(std::move(item));
      }
    }
  } else if constexpr (detail::IsMap<T>::value) {
    auto* members = json.get_if<Json::Object>();
    right = members != nullptr;
    if (right) {
      value.clear();
      for (auto& [key, item] : *members) read_field(item, value[key], at.member(key));
    }
  } else {
    static_assert(Config<T>,
                  "PRETRAINED_FIELDS: bool, numbers, std::string, Json, another config, and "
                  "std::vector, std::optional, std::map<std::string, …> of these");
    right = json.get_if<Json::Object>() != nullptr;
    if (right) value = T::from_json(json, at);
  }
  if (!right) throw_wrong_type(at, detail::type_name<T>(false), json);
}

template <class T>
Json write_field(const T& value) {
  if constexpr (std::is_same_v<T, Json> || std::is_same_v<T, bool> ||
                std::is_same_v<T, std::string>) {
    return Json(value);
  } else if constexpr (std::is_integral_v<T>) {
    return Json(int64_t(value));
  } else if constexpr (std::is_floating_point_v<T>) {
    return Json(double(value));
  } else if constexpr (detail::IsOptional<T>::value) {
    return value ? write_field(*value) : Json();
  } else if constexpr (detail::IsVector<T>::value) {
    Json::Array items;
    for (typename T::value_type item : value) items.push_back(write_field(item));
    return items;
  } else if constexpr (detail::IsMap<T>::value) {
    Json::Object members;
    for (auto& [key, item] : value) members[key] = write_field(item);
    return members;
  } else {
    return value.to_json();
  }
}

namespace detail {
struct Any {
  template <class U>
  operator U() const;
};
// The number of members of an aggregate; its base counts as one.
template <class T, class... A>
constexpr int arity() {
  if constexpr (requires { T{A{}..., Any{}}; })
    return arity<T, A..., Any>();
  else
    return int(sizeof...(A));
}
}  // namespace detail

}  // namespace pretrained
