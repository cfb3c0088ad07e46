#include "pretrained/base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace {

using pretrained::FormatError;
using pretrained::Json;
using pretrained::python_repr;

Json parse(const std::string& text) { return Json::parse(text, "x.json"); }

std::string error_of(const std::string& text) {
  try {
    parse(text);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Json, WritesAsPythonDoes) {
  EXPECT_EQ(
      parse(
          R"({"z": [], "a": {"b": [1, -0.0, 1e16, 1e-5, true, null]}, "é": "\ud83d\ude00\u2028</b>"})")
          .dump(),
      "{\n  \"a\": {\n    \"b\": [\n      1,\n      -0.0,\n      1e+16,\n      1e-05,\n      "
      "true,\n      null\n"
      "    ]\n  },\n  \"z\": [],\n  \"\\u00e9\": \"\\ud83d\\ude00\\u2028</b>\"\n}");
}

TEST(Json, KeepsBigIntegersExactly) {
  EXPECT_EQ(
      parse("[123456789012345678901234567890, -9223372036854775808, 18446744073709551615]").dump(0),
      "[123456789012345678901234567890, -9223372036854775808, 18446744073709551615]");
}

TEST(Json, ReadsWhatPythonWritesForInfinityAndNan) {
  Json json = parse(R"([NaN, -Infinity, {"__float__": "Infinity"}, "NaN \" Infinity"])");
  auto& items = *json.get_if<Json::Array>();
  EXPECT_TRUE(std::isnan(*items[0].get_if<double>()));
  EXPECT_EQ(*items[1].get_if<double>(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(*items[2].get_if<double>(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(items[3], Json("NaN \" Infinity"));
  EXPECT_EQ(json, json);
  EXPECT_EQ(items[0].dump(0), R"({"__float__": "NaN"})");
}

TEST(Json, OrdersLabelsAsIntegers) {
  EXPECT_EQ(parse(R"({"id2label": {"10": "a", "2": "b"}, "other": {"10": 1, "2": 2}})").dump(0),
            R"({"id2label": {"2": "b", "10": "a"}, "other": {"10": 1, "2": 2}})");
}

TEST(Json, RefusesHostileInput) {
  EXPECT_EQ(error_of(R"({"a": 1, "a": 2})"),
            "x.json: not valid JSON: the key 'a' stands twice in one object");
  EXPECT_EQ(error_of(std::string(100000, '[')),
            "x.json: not valid JSON: nested deeper than 64 levels");
  EXPECT_NE(error_of(std::string(17 << 20, ' ')).find("at most 16777216 are read"),
            std::string::npos);
  EXPECT_NE(error_of("{\n \"a\": }").find("line 2, column 7"), std::string::npos);
  for (auto* text : {"", "{", "[1,]", "{'a': 1}", "1 2", "\"\xff\"", "[1e999]", "\xEF\xBB\xBF{}",
                     "nul", "\"\\ud800\"", "[NaNN]", "[01]"})
    EXPECT_NE(error_of(text), "no error") << text;
  EXPECT_NE(error_of("[" + std::string(5000, '9') + "]"), "no error");
}

TEST(PythonRepr, NumbersThatAreNone) {
  double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(python_repr(infinity), "inf");
  EXPECT_EQ(python_repr(-infinity), "-inf");
  EXPECT_EQ(python_repr(std::nan("")), "nan");
}

}  // namespace
