#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "command.h"
#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/model/auto.h"
#include "pretrained/vision/image.h"

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

constexpr auto kConfiguration = R"(#pragma once
#include <pretrained/model.h>

struct @Name@Config : pretrained::PretrainedConfig<@Name@Config> {
  static constexpr auto model_type = "@name@";

  std::vector<int64_t> layers = {1, 1, 1, 1};
  int64_t stem_width = 32;

  PRETRAINED_FIELDS(layers, stem_width)

  void validate() const {
    if (layers.size() != 4) throw pretrained::ConfigError("`layers` must have 4 elements.");
  }
};
)";

constexpr auto kModeling = R"(#pragma once
#include <pretrained/nn/timm_resnet.h>
#include <torch/nn/functional/loss.h>
#include "configuration_@name@.h"

struct @Name@ForImageClassification
    : pretrained::PreTrainedModel<@Name@ForImageClassification, @Name@Config> {
  static constexpr std::array inputs{"tensor", "labels"};
  timm::ResNet model;

  explicit @Name@ForImageClassification(const Config& config)
      : PreTrainedModel(config),
        model(register_module("model", timm::ResNet(timm::ResNetOptions{.block = "basic", .layers = config.layers,
                                                                        .num_classes = config.num_labels,
                                                                        .stem_width = config.stem_width}))) {}

  pretrained::NamedTensors forward(torch::Tensor tensor, std::optional<torch::Tensor> labels = {}) {
    auto logits = model->forward(tensor);
    if (!labels) return {{"logits", logits}};
    return {{"loss", torch::nn::functional::cross_entropy(logits, *labels)}, {"logits", logits}};
  }
};
)";

constexpr auto kReadme = R"(# @name@

A custom model: `configuration_@name@.h` says what can be set, `modeling_@name@.h` what is computed.
The weights are freshly initialised, not trained: predictions mean nothing yet.

    pretrained inspect .
    pretrained predict . test.png --trust-remote-code
)";

constexpr auto kConfig = R"({
  "auto_map_cpp": {
    "AutoConfig": "configuration_@name@.@Name@Config",
    "AutoModelForImageClassification": "modeling_@name@.@Name@ForImageClassification"
  },
  "id2label": {"0": "cat", "1": "dog", "2": "other"},
  "label2id": {"cat": 0, "dog": 1, "other": 2},
  "model_type": "@name@"
}
)";

constexpr auto kProcessor = R"({
  "crop_size": {"height": 64, "width": 64},
  "do_center_crop": true,
  "do_normalize": true,
  "do_rescale": true,
  "do_resize": true,
  "image_mean": [0.485, 0.456, 0.406],
  "image_processor_type": "BitImageProcessor",
  "image_std": [0.229, 0.224, 0.225],
  "resample": 3,
  "rescale_factor": 0.00392156862745098,
  "size": {"shortest_edge": 64}
}
)";

std::string fill(std::string text, const std::string& name, const std::string& class_name) {
  for (auto& [mark, value] : {std::pair{"@name@", name}, std::pair{"@Name@", class_name}})
    for (size_t at; (at = text.find(mark)) != text.npos;) text.replace(at, 6, value);
  return text;
}

// "my-model" → "my_model", "MyModel".
std::pair<std::string, std::string> names_of(const fs::path& folder) {
  std::string name = fs::weakly_canonical(folder).filename().string(), class_name;
  bool upper = true;
  for (char& c : name) {
    if (c == '-' || c == '.' || c == ' ') c = '_';
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool digit = c >= '0' && c <= '9';
    if ((!letter && !digit && c != '_') || (class_name.empty() && !letter))
      throw ArgumentError(
          "the folder's name becomes the name of a class: use letters, digits, '-' and '_', a "
          "letter first");
    if (c != '_') class_name += upper ? char(std::toupper(c)) : c;
    upper = c == '_';
    c = char(std::tolower(c));
  }
  return {name, class_name};
}

vision::Image test_image() {
  vision::Image image{96, 96, 3, {}};
  for (int y = 0; y < 96; ++y)
    for (int x = 0; x < 96; ++x)
      for (int channel : {x, y, 48 + (x ^ y) / 2}) image.pixels.push_back(uint8_t(channel * 2));
  return image;
}

void create(const fs::path& folder, const Common& common) {
  if (fs::exists(folder) && !(fs::is_directory(folder) && fs::is_empty(folder)))
    throw ArgumentError(folder.string() + " exists and is not an empty folder");
  auto [name, class_name] = names_of(folder);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw IoError(folder.string() + ": " + error.message());
  for (auto& [file, text] : {std::pair{"configuration_" + name + ".h", kConfiguration},
                             std::pair{"modeling_" + name + ".h", kModeling},
                             std::pair{std::string("README.md"), kReadme},
                             std::pair{std::string("config.json"), kConfig},
                             std::pair{std::string("preprocessor_config.json"), kProcessor}})
    write_file_atomically(folder / file, fill(text, name, class_name));
  vision::write_png(folder / "test.png", test_image());

  // The weights come from the code just written, compiled as everyone will compile it.
  FromPretrained options{.trust_remote_code = true};
  if (!common.quiet) options.notice = [](const std::string& line) { std::cerr << line << "\n"; };
  auto model =
      AutoModelForImageClassification::from_config(AutoConfig::from_pretrained(folder, options));
  model->save_pretrained(folder);
  if (common.json) {
    std::cout << Json(Json::Object{{"folder", folder.string()},
                                   {"class", model->model_class().name}})
                     .dump(0)
              << "\n";
  } else if (!common.quiet) {
    std::cout << "Made " << folder.string() << " with " << model->model_class().name << " ("
              << model->num_parameters() << " parameters, untrained). Try:\n  pretrained predict "
              << folder.string() << " " << (folder / "test.png").string()
              << " --trust-remote-code\n";
  }
}

}  // namespace

void add_new(CLI::App& app) {
  static Common common;
  static std::string folder;
  auto* command = app.add_subcommand("new", "scaffold a custom model that compiles and predicts");
  command->add_option("DIR", folder, "the new folder; its name becomes the model's")->required();
  add_common(*command, common);
  command->footer(
      "Example:\n  pretrained new my-model && pretrained predict my-model my-model/test.png "
      "--trust-remote-code");
  command->callback([] { create(folder, common); });
}

}  // namespace pretrained::cli
