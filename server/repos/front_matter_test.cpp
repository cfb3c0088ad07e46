#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "server/repos/repos.h"

namespace pretrained::server {
namespace {

Json parse(const std::string& yaml) {
  return parse_front_matter("---\n" + yaml + "\n---\n# Model\n", "README.md");
}

std::string error_of(const std::string& yaml) {
  try {
    parse(yaml);
  } catch (const FormatError& e) {
    return e.what();
  }
  return "";
}

TEST(FrontMatter, CardsOfTheHub) {
  Json card = parse(
      "language:\n- en\n- \"no\"\nlicense: apache-2.0\ntags: [vision, image-classification]\n"
      "pipeline_tag: image-classification\nmodel-index:\n- name: resnet\n  results:\n"
      "  - task: {type: image-classification}\n    metrics:\n    - value: 0.81\n      name: "
      "top-1\n");
  EXPECT_EQ(*card.find("license"), Json("apache-2.0"));
  EXPECT_EQ(*card.find("language"), Json(Json::Array{"en", "no"}));
  EXPECT_EQ(*card.find("tags"), Json(Json::Array{"vision", "image-classification"}));
  const Json& model = (*card.find("model-index")->get_if<Json::Array>())[0];
  const Json& result = (*model.find("results")->get_if<Json::Array>())[0];
  const Json& metric = (*result.find("metrics")->get_if<Json::Array>())[0];
  EXPECT_EQ(*metric.find("value"), Json(0.81));
}

TEST(FrontMatter, WhereItIs) {
  auto license = [](const std::string& readme) {
    Json card = parse_front_matter(readme, "README.md");
    const Json* found = card.find("license");
    return found ? *found : Json();
  };
  EXPECT_EQ(license("---\nlicense: mit\n---\n"), Json("mit"));
  EXPECT_EQ(license("---\r\nlicense: mit\r\n---\r\ntext"), Json("mit"));
  EXPECT_EQ(license("\xef\xbb\xbf---\nlicense: mit\n---"), Json("mit"));
  EXPECT_EQ(license("\n  ---\nlicense: mit\n---\n"), Json("mit"));
  EXPECT_EQ(license("---\nlicense: mit\nx: a---b\n---\n"), Json("mit"));
  for (const char* none :
       {"", "# Title\n---\nlicense: mit\n---\n", "---\nlicense: mit\n", "---",
        "--- \nlicense: mit\n---\n", "----\nlicense: mit\n----\n", "---\nlicense: mit\n--- x\n"})
    EXPECT_TRUE(parse_front_matter(none, "README.md").is_null()) << none;
  EXPECT_TRUE(parse("").is_null());
  EXPECT_TRUE(parse("# only a comment").is_null());
}

TEST(FrontMatter, ScalarsAsPyYamlReadsThem) {
  auto value = [](const std::string& text) { return *parse("x: " + text).find("x"); };
  for (const char* text : {"true", "True", "TRUE", "yes", "Yes", "on"})
    EXPECT_EQ(value(text), Json(true)) << text;
  for (const char* text : {"false", "no", "NO", "off"}) EXPECT_EQ(value(text), Json(false)) << text;
  for (const char* text : {"", "~", "null", "Null"}) EXPECT_TRUE(value(text).is_null()) << text;
  EXPECT_EQ(value("1_000"), Json(1000));
  EXPECT_EQ(value("010"), Json(8));
  EXPECT_EQ(value("0x1F"), Json(31));
  EXPECT_EQ(value("0b11"), Json(3));
  EXPECT_EQ(value("-7"), Json(-7));
  EXPECT_EQ(value("09"), Json("09"));
  EXPECT_EQ(value("99999999999999999999"), Json(BigInteger{"99999999999999999999"}));
  EXPECT_EQ(value("1.5"), Json(1.5));
  EXPECT_EQ(value("1.5e+3"), Json(1500.0));
  EXPECT_EQ(value("1e5"), Json("1e5"));  // YAML 1.1 wants a point
  EXPECT_EQ(value(".5"), Json(0.5));
  EXPECT_EQ(value("-.inf"), Json(-INFINITY));
  EXPECT_EQ(value("1.2.3"), Json("1.2.3"));
  EXPECT_EQ(value("."), Json("."));
  EXPECT_EQ(value("2024-01-31"), Json("2024-01-31"));
  EXPECT_EQ(value("\"no\""), Json("no"));
  EXPECT_EQ(value("'12'"), Json("12"));
  EXPECT_EQ(value("!!str 12"), Json("12"));
  EXPECT_EQ(*parse("1: a").find("1"), Json("a"));
}

TEST(FrontMatter, ErrorsSayWhere) {
  EXPECT_EQ(error_of("license: mit\nlicense: gpl"),
            "README.md: line 3, column 1: key 'license' occurs twice");
  EXPECT_NE(error_of("a: [1, 2").find("README.md: line "), std::string::npos);
  EXPECT_NE(error_of("- a\n- b").find("expected a mapping, got a list"), std::string::npos);
  EXPECT_NE(error_of("just text").find("expected a mapping, got a string"), std::string::npos);
  EXPECT_NE(error_of("a: !!python/object:os.system x").find("is not allowed"), std::string::npos);
  EXPECT_NE(error_of("? [a, b]\n: c").find("expected a text as key"), std::string::npos);
  EXPECT_NE(error_of("a: &x [*x]").find("alias"), std::string::npos);
  EXPECT_NE(error_of("a: *unknown"), "");
}

TEST(FrontMatter, OnlyUtf8WithoutControlCharacters) {
  EXPECT_EQ(error_of("a: b\nno: {y:\xcf"
                     "1.5e3}"),
            "README.md: line 3, column 8: not UTF-8");
  EXPECT_EQ(error_of("x: \xed\xa0\x80"), "README.md: line 2, column 4: not UTF-8");  // a surrogate
  EXPECT_EQ(error_of(std::string("x: a\0b", 6)),
            "README.md: line 2, column 5: control characters are not allowed");
  EXPECT_EQ(error_of("x: \x1b[31m"),
            "README.md: line 2, column 4: control characters are not allowed");
  EXPECT_EQ(*parse("x: \xc3\xa9\xf0\x9f\xa4\x97").find("x"), Json("\xc3\xa9\xf0\x9f\xa4\x97"));
  EXPECT_NE(error_of("x: \"\\ud800\""), "");
}

TEST(FrontMatter, Aliases) {
  Json card = parse("a: &x {k: v}\nb: *x\nc: [*x, *x]");
  EXPECT_EQ(*card.find("b"), *card.find("a"));
}

TEST(FrontMatter, BombsAreRefusedQuickly) {
  std::string lol = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    std::string below = "*a" + std::to_string(i - 1);
    lol += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + below;
    for (int k = 0; k < 9; ++k) lol += ", " + below;
    lol += "]\n";
  }
  std::string chain = "b0: &b0 [x]\n";
  for (int i = 1; i < 100; ++i)
    chain += "b" + std::to_string(i) + ": &b" + std::to_string(i) + " [*b" + std::to_string(i - 1) +
             "]\n";
  std::string text = "t: &t " + std::string(500'000, 'x') + "\nl: [*t";
  for (int i = 0; i < 50'000; ++i) text += ",*t";
  text += "]";
  std::string many = "l: [";
  for (int i = 0; i < 200'000; ++i) many += "1,";
  many += "1]";
  for (const std::string& bomb :
       {lol, chain, text, many, std::string(20'000, '['), std::string(20'000, '{'),
        "a: " + std::string(60, '[') + std::string(60, ']'), std::string(2 << 20, 'x'), [] {
          std::string nested;
          for (int i = 0; i < 500; ++i) nested += std::string(size_t(i), ' ') + "a:\n";
          return nested;
        }()})
    EXPECT_NE(error_of(bomb), "") << bomb.substr(0, 40);
}

TEST(FrontMatter, AnyBytesAreAnErrorOrACard) {
  uint32_t random = 1;
  const std::string alphabet = "ab:-?[]{},&*!|>'\"%@`# \n\t\\~0.\x80\xff\0x";
  for (int round = 0; round < 3000; ++round) {
    std::string yaml;
    for (int i = 0; i < 40; ++i) {
      random = random * 1664525 + 1013904223;
      yaml += alphabet[(random >> 8) % alphabet.size()];
    }
    try {
      Json::parse(parse(yaml).dump(0), "round trip");
    } catch (const FormatError&) {
    }
  }
}

TEST(Card, ProblemsAreNamed) {
  EXPECT_TRUE(check_card("---\nlicense: mit\ntags: [a]\n---\n", "model").errors.empty());
  EXPECT_TRUE(check_card("---\nlicense: mit\n---\n", "model").warnings.empty());
  EXPECT_EQ(check_card("# no front matter", "model").warnings.size(), 1u);
  auto bad = check_card("---\npipeline_tag: [a]\ntags: {a: 1}\nmodel-index: x\n---\n", "model");
  EXPECT_EQ(bad.errors.size(), 3u);
  EXPECT_EQ(check_card("---\na: [\n---\n", "model").errors.size(), 1u);
}

}  // namespace
}  // namespace pretrained::server
