// Reads and writes configs for config.py.
//   generic IN OUT            any config, no class known
//   resnet IN OUT [OVERRIDES]  as ResnetConfig
//   structs OUT               the structs that config.py builds in Python too
#include <pretrained/model/auto.h>

#include <iostream>
#include <limits>

#include "../../examples/resnet_model/configuration_resnet.h"

using pretrained::Json;

struct GenericConfig : pretrained::PretrainedConfig<GenericConfig> {
  static constexpr auto model_type = "";
  PRETRAINED_FIELDS()
};

struct InfinitiesConfig : pretrained::PretrainedConfig<InfinitiesConfig> {
  static constexpr auto model_type = "custom";
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double a = kInfinity, b = -kInfinity, c = std::numeric_limits<double>::quiet_NaN();
  std::vector<Json> d = {Json(kInfinity), Json(Json::Object{{"x", c}})};
  PRETRAINED_FIELDS(a, b, c, d)
};

struct UnicodeConfig : pretrained::PretrainedConfig<UnicodeConfig> {
  static constexpr auto model_type = "custom";
  std::string a = "한국어", b = "é ü", c = "😀", d = "a\tb\n\\ \" / </script>",
              e = std::string("\u2028\x7f\x00", 5);
  PRETRAINED_FIELDS(a, b, c, d, e)
};

static void label(pretrained::ConfigBase& config, int64_t count) {
  config.num_labels = count;
  for (int64_t i = 0; i < count; ++i) config.id2label[i] = "class " + std::to_string(i);
}

static void write_structs(const std::filesystem::path& out) {
  ResnetConfig{}.save_pretrained(out / "resnet default");
  ResnetConfig{.block_type = "bottleneck", .stem_width = 32, .stem_type = "deep", .avg_down = true}
      .save_pretrained(out / "resnet50d");
  ResnetConfig{
      .block_type = "basic", .layers = {2, 2, 2, 2}, .num_classes = 10, .input_channels = 1}
      .save_pretrained(out / "resnet basic");
  for (int64_t count : {12, 1000}) {
    ResnetConfig config;
    label(config, count);
    config.save_pretrained(out / (std::to_string(count) + " labels"));
  }
  ResnetConfig three, flags, problem, unknown;
  three.num_labels = 3;
  three.save_pretrained(out / "3 labels");
  flags.output_hidden_states = flags.is_encoder_decoder = true;
  flags.return_dict = false;
  flags.save_pretrained(out / "flags");
  problem.problem_type = "regression";
  problem.num_labels = 1;
  problem.save_pretrained(out / "problem type");
  unknown.extra = {{"foo", "bar"},
                   {"empty", Json::Array{}},
                   {"nested", Json::parse(R"({"b": [1, {"c": null}], "a": {}})", "nested")}};
  unknown.save_pretrained(out / "unknown keys");
  InfinitiesConfig{}.save_pretrained(out / "infinities");
  UnicodeConfig unicode;
  unicode.extra = {{"ключ", "значение"}};
  unicode.save_pretrained(out / "unicode");
}

int main(int argc, char** argv) try {
  std::string what = argv[1];
  Json::Object overrides;
  if (argc > 4) overrides = *Json::parse(argv[4], "overrides").get_if<Json::Object>();
  if (what == "generic") GenericConfig::from_pretrained(argv[2]).save_pretrained(argv[3]);
  if (what == "resnet") ResnetConfig::from_pretrained(argv[2], overrides).save_pretrained(argv[3]);
  if (what == "structs") write_structs(argv[2]);
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
