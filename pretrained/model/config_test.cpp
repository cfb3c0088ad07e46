#include "pretrained/model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "pretrained/base/files.h"

namespace config_test {

namespace fs = std::filesystem;
using pretrained::ConfigError;
using pretrained::Json;

struct VisionConfig : pretrained::PretrainedConfig<VisionConfig> {
  static constexpr auto model_type = "vision";
  std::vector<int64_t> layers = {3, 4, 6, 3};
  double dropout = 0.1;
  std::optional<std::string> act;
  PRETRAINED_FIELDS(layers, dropout, act)
  void validate() const {
    if (layers.size() != 4)
      throw ConfigError("`layers` must have 4 elements, got " + std::to_string(layers.size()));
  }
};

struct PairConfig : pretrained::PretrainedConfig<PairConfig> {
  static constexpr auto model_type = "pair";
  VisionConfig vision_config;
  std::map<std::string, double> scales;
  std::vector<std::vector<int64_t>> grid;
  bool tied = false;
  PRETRAINED_FIELDS(vision_config, scales, grid, tied)
};

struct WideConfig : pretrained::PretrainedConfig<WideConfig, VisionConfig> {
  static constexpr auto model_type = "wide";
  int64_t width = 2;
  PRETRAINED_FIELDS(width)
};

std::string error_of(auto&& call) {
  try {
    call();
  } catch (const pretrained::Error& error) {
    return error.what();
  }
  return "no error";
}

VisionConfig read(const std::string& text) {
  return VisionConfig::from_json(Json::parse(text, "config.json"));
}

struct Folder {
  fs::path path = fs::temp_directory_path() / ("pretrained-config-" + std::to_string(getpid()));
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
};

TEST(Config, SavesAndReloadsEqual) {
  Folder folder;
  VisionConfig config{.layers = {1, 1, 1, 1}, .dropout = 0};
  config.num_labels = 3;
  config.save_pretrained(folder.path);
  VisionConfig again = VisionConfig::from_pretrained(folder.path);
  EXPECT_EQ(again, config);
  EXPECT_EQ(again.num_labels, 3);
  EXPECT_EQ(VisionConfig::from_pretrained(folder.path / "config.json"), config);
  again.layers = {2, 2, 2, 2};
  EXPECT_EQ(diff(config, again), "layers: [1, 1, 1, 1] → [2, 2, 2, 2]\n");
}

TEST(Config, WrongTypesNameFileFieldAndBothKinds) {
  EXPECT_EQ(error_of([] { read(R"({"layers": "3"})"); }),
            "config.json: field 'layers': expected a list of integers, got a string");
  EXPECT_EQ(error_of([] { read(R"({"layers": [3, 4.5, 6, 3]})"); }),
            "config.json: field 'layers[1]': expected an integer, got a number");
  EXPECT_EQ(error_of([] { read(R"({"act": 1})"); }),
            "config.json: field 'act': expected a string, got an integer");
  EXPECT_EQ(error_of([] { read(R"({"layers": [99999999999999999999, 1, 1, 1]})"); }),
            "config.json: field 'layers[0]': 99999999999999999999 is outside -9223372036854775808 "
            "… 9223372036854775807");
  EXPECT_EQ(error_of([] {
              PairConfig::from_json(Json::parse(R"({"vision_config": {"dropout": null}})", "x"));
            }),
            "config.json: field 'vision_config.dropout': expected a number, got null");
  EXPECT_EQ(error_of([] {
              PairConfig::from_json(Json::parse(R"({"vision_config": {"layers": []}})", "x"));
            }),
            "config.json: field 'vision_config': `layers` must have 4 elements, got 0");
  EXPECT_EQ(error_of([] { read(R"({"id2label": {"a": "cat"}})"); }),
            "config.json: field 'id2label': expected integers as keys, got 'a'");
}

TEST(Config, UnknownKeysAndSpellingSurvive) {
  std::string text = R"({
  "dropout": 0,
  "foo": {
    "a": 12345678901234567890123
  },
  "layers": [
    1,
    2,
    3,
    4
  ],
  "model_type": "vision",
  "to_dict": 5
})";
  VisionConfig config = read(text);
  EXPECT_EQ(config.extra.at("to_dict"), Json(5));
  EXPECT_EQ(config.dropout, 0);
  std::string written = config.to_json().dump();
  EXPECT_NE(written.find("\"dropout\": 0,"), std::string::npos);
  EXPECT_NE(written.find("12345678901234567890123"), std::string::npos);
  config.dropout = 1;
  EXPECT_NE(config.to_json().dump().find("\"dropout\": 1.0,"), std::string::npos);
}

TEST(Config, LabelsFollowTheirNumber) {
  VisionConfig config;
  EXPECT_EQ(config.num_labels, 2);
  EXPECT_FALSE(config.to_json().find("id2label"));
  config.num_labels = 12;
  EXPECT_EQ(config.label(11), "LABEL_11");
  auto text = config.to_json().dump();
  EXPECT_LT(text.find("\"2\": \"LABEL_2\""), text.find("\"10\": \"LABEL_10\""));
  VisionConfig copy = config;
  copy.num_labels = 3;
  EXPECT_EQ(config.num_labels, 12);
  config = copy;
  EXPECT_EQ(config.num_labels, 3);
  EXPECT_THROW(config.num_labels = -1, ConfigError);
  EXPECT_EQ(read(R"({"id2label": {"0": "cat", "1": "dog"}})").label(1), "dog");
}

TEST(Config, DerivedConfigHasTheParentsFields) {
  WideConfig config{.width = 4};
  config.layers = {1, 2, 3, 4};
  Json json = config.to_json();
  EXPECT_EQ(*json.find("width"), Json(4));
  EXPECT_EQ(json.find("layers")->dump(0), "[1, 2, 3, 4]");
  EXPECT_EQ(*json.find("model_type"), Json("wide"));
  EXPECT_EQ(WideConfig::from_json(json), config);
  EXPECT_THROW(WideConfig::from_json(Json::parse(R"({"layers": [1]})", "x")), ConfigError);
}

TEST(Config, OverridesReplaceFieldsAndRefuseUnknownNames) {
  Folder folder;
  VisionConfig{}.save_pretrained(folder.path);
  auto config = VisionConfig::from_pretrained(folder.path, {{"num_labels", 5}, {"dropout", 0.5}});
  EXPECT_EQ(config.num_labels, 5);
  EXPECT_EQ(config.dropout, 0.5);
  EXPECT_EQ(
      error_of([&] { VisionConfig::from_pretrained(folder.path, {{"dropuot", 1}}); }).substr(0, 59),
      "config_overrides: there is no field 'dropuot'; the fields a");
}

TEST(Config, MissingFilesAndFilesInPlaceOfFoldersAreTypedErrors) {
  Folder folder;
  EXPECT_THROW(VisionConfig::from_pretrained(folder.path / "nothing"), pretrained::NotFoundError);
  fs::create_directories(folder.path);
  pretrained::write_file_atomically(folder.path / "file", "x");
  EXPECT_THROW(VisionConfig{}.save_pretrained(folder.path / "file"), pretrained::ArgumentError);
  pretrained::write_file_atomically(folder.path / "config.json", "[1]");
  EXPECT_EQ(error_of([&] { VisionConfig::from_pretrained(folder.path); }),
            "config.json: expected an object, got a list");
}

}  // namespace config_test
