#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/model/auto.h"
#include "pretrained/vision/image.h"
#include "verbs.h"

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

constexpr auto kConfiguration = R"(#pragma once
#include <pretrained/model.h>

struct @Name@Config : pretrained::PretrainedConfig<@Name@Config> {
  static constexpr auto model_type = "@name@";

  std::vector<int64_t> layers = {1, 1, 1, 1};
  int64_t stem_width = 32;  // of the first two convolutions; the third has twice as many channels

  PRETRAINED_FIELDS(layers, stem_width)

  void validate() const {
    if (layers.size() != 4) throw pretrained::ConfigError("`layers` must have 4 elements.");
    if (stem_width < 1) throw pretrained::ConfigError("`stem_width` must be at least 1.");
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
        model(register_module("model", timm::ResNet(timm::ResNetOptions{
                                           .block = "basic",
                                           .layers = config.layers,
                                           .num_classes = config.num_labels,
                                           .stem_width = config.stem_width,
                                           .stem_type = "deep"}))) {}

  pretrained::NamedTensors forward(torch::Tensor tensor, std::optional<torch::Tensor> labels = {}) {
    auto logits = model->forward(tensor);
    if (!labels) return {{"logits", logits}};
    return {{"loss", torch::nn::functional::cross_entropy(logits, *labels)}, {"logits", logits}};
  }
};
)";

constexpr auto kTrain =
    R"(// Fits the model in FOLDER and saves it there again, with its code. Usage: train FOLDER
#include <pretrained/pretrained.h>
#include <torch/torch.h>

#include <iostream>

#include "modeling_@name@.h"

int main(int argc, char** argv) try {
  std::string folder = argc > 1 ? argv[1] : ".";
  auto model = @Name@ForImageClassification::from_pretrained(folder);
  model->train();
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(1e-3));
  for (int step = 1; step <= 20; ++step) {
    // Your data goes here. For pictures from files, as `pretrained predict` prepares them:
    // pretrained::vision::ImageProcessor::from_pretrained(folder).preprocess(read_image(file)).
    auto labels = torch::randint(model->config().num_labels, {16});
    auto images = torch::randn({16, 3, 64, 64}) + labels.view({-1, 1, 1, 1});
    optimizer.zero_grad();
    auto loss = (*model)(images, labels)["loss"];
    loss.backward();
    optimizer.step();
    if (step % 5 == 0) std::cout << "step " << step << "  loss " << loss.item<float>() << "\n";
  }
  @Name@Config::register_for_auto_class();
  @Name@ForImageClassification::register_for_auto_class("AutoModelForImageClassification");
  model->eval();
  model->save_pretrained(folder);
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
)";

constexpr auto kCMake = R"(cmake_minimum_required(VERSION 3.25)
project(@name@ LANGUAGES CXX)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_package(pretrained REQUIRED)
add_executable(train train.cpp)
target_link_libraries(train PRIVATE pretrained::pretrained)
)";

constexpr auto kReadme = R"(# @name@

A custom model: `configuration_@name@.h` says what can be set, `modeling_@name@.h` what is computed.
The weights are freshly initialised, not trained: predictions mean nothing yet.

    pretrained inspect .
    pretrained predict . test.png --trust-remote-code

## Train it

`train.cpp` is a loop to start from: it fits the model to made-up pictures, which you replace, and saves
it into this folder with its code. PREFIX is where `pretrained` is installed.

    cmake -B build -DCMAKE_PREFIX_PATH=PREFIX && cmake --build build && build/train .

## Use it from C++

With the classes at hand, as `train.cpp` does, or by folder from any program, which compiles the code:

    #include <pretrained/pretrained.h>

    auto model = pretrained::AutoModelForImageClassification::from_pretrained("@name@", {.trust_remote_code = true});
    auto processor = pretrained::vision::ImageProcessor::from_pretrained("@name@");
    auto pixels = processor.preprocess(pretrained::vision::read_image("test.png"));
    auto logits = model(torch::tensor(pixels).view({1, 3, 64, 64}))["logits"];
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

// A class reference has at most 96 characters for a file's name.
constexpr size_t kMaxName = 96 - std::string_view("configuration_").size();

// "my-model" → "my_model", "MyModel".
std::pair<std::string, std::string> names_of(const fs::path& folder) {
  std::string name = folder.filename().string(), class_name;
  if (name.size() > kMaxName)
    throw ArgumentError(
        "'" + printable(name, 40) + "': the folder's name becomes the name of a class: it has " +
        std::to_string(name.size()) + " characters, at most " + std::to_string(kMaxName));
  bool upper = true;
  for (char& c : name) {
    if (c == '-' || c == '.' || c == ' ') c = '_';
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool digit = c >= '0' && c <= '9';
    if ((!letter && !digit && c != '_') || (class_name.empty() && !letter))
      throw ArgumentError(
          "'" + printable(folder.filename().string(), 80) +
          "': the folder's name becomes the name of a class: use letters, digits, '-', '_', '.' "
          "and blanks, a letter first");
    if (c != '_') class_name += upper ? char(std::toupper(c)) : c;
    upper = c == '_';
    c = char(std::tolower(c));
  }
  if (name.empty()) throw ArgumentError(folder.string() + " has no name to call a model by");
  return {name, class_name};
}

// A folder beside `target` that takes its place when all is made; until then, or after an error,
// nothing is there.
class NewFolder {
 public:
  explicit NewFolder(fs::path target) : target_(std::move(target)) {
    std::error_code error;
    fs::create_directories(target_.parent_path(), error);
    std::string name = (target_.parent_path() / ".pretrained-new.XXXXXX").string();
    if (error || !mkdtemp(name.data()))
      throw IoError(target_.string() +
                    ": cannot be made: " + (error ? error.message() : std::strerror(errno)));
    path_ = name;
  }
  ~NewFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  const fs::path& path() const { return path_; }
  void publish() {
    std::error_code error;
    // mkdir gives the usual permissions; mkdtemp's are private. An empty folder may be somebody's
    // working directory: it stays and is filled.
    bool there = fs::is_directory(target_, error);
    if (!there) fs::create_directory(target_, error);
    if (error) throw IoError(target_.string() + ": " + error.message());
    for (auto& entry : fs::directory_iterator(path_))
      if (!error) fs::rename(entry.path(), target_ / entry.path().filename(), error);
    if (error) throw IoError(target_.string() + ": " + error.message());
  }

 private:
  fs::path target_, path_;
};

vision::Image test_image() {
  vision::Image image{96, 96, 3, {}};
  for (int y = 0; y < 96; ++y)
    for (int x = 0; x < 96; ++x)
      for (int channel : {x, y, 48 + (x ^ y) / 2}) image.pixels.push_back(uint8_t(channel * 2));
  return image;
}

void write_sources(const fs::path& folder, const std::string& name, const std::string& class_name) {
  const std::pair<std::string, const char*> files[] = {
      {"configuration_" + name + ".h", kConfiguration},
      {"modeling_" + name + ".h", kModeling},
      {"train.cpp", kTrain},
      {"CMakeLists.txt", kCMake},
      {"README.md", kReadme},
      {"config.json", kConfig},
      {"preprocessor_config.json", kProcessor}};
  for (auto& [file, text] : files)
    write_file_atomically(folder / file, fill(text, name, class_name));
  vision::write_png(folder / "test.png", test_image());
}

}  // namespace

void create(const std::string& where, const Common& common) {
  fs::path wanted = where;
  std::error_code error;
  fs::path folder = fs::weakly_canonical(fs::absolute(wanted), error);
  if (!folder.has_filename()) folder = folder.parent_path();  // "my-model/"
  auto [name, class_name] = names_of(error ? wanted : folder);
  if (fs::exists(fs::symlink_status(folder)) && !(fs::is_directory(folder) && fs::is_empty(folder)))
    throw ArgumentError(wanted.string() + " exists and is not an empty folder");
  NewFolder made(folder);
  write_sources(made.path(), name, class_name);

  // The weights come from the code just written, compiled as everyone will compile it.
  TrustPolicy just_written{.ask = [](auto&) { return true; }, .record = false};
  FromPretrained options{.trust_remote_code = just_written};
  if (!common.quiet) options.notice = print_line;
  auto model = AutoModelForImageClassification::from_config(
      AutoConfig::from_pretrained(made.path(), options));
  model->save_pretrained(made.path());
  made.publish();
  if (common.json) {
    std::cout << Json(Json::Object{{"folder", wanted.string()},
                                   {"class", model->model_class().name}})
                     .dump(0)
              << "\n";
  } else if (!common.quiet) {
    std::string shown = printable(wanted.string());
    std::cout
        << "Made " << shown << " with " << model->model_class().name << " ("
        << model->num_parameters() << " parameters, untrained). Try:\n  pretrained predict "
        << shown << " " << printable((wanted / "test.png").string())
        << " --trust-remote-code\nREADME.md there says how to train it and use it from C++.\n";
  }
}

}  // namespace pretrained::cli
