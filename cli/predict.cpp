#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>

#include "command.h"
#include "pretrained/base/error.h"
#include "pretrained/model/auto.h"
#include "pretrained/model/weights.h"
#include "pretrained/vision/image.h"
#include "pretrained/vision/image_processor.h"

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  Common common;
  FromPretrained options;
  std::string model, device = "cpu", input, output;
  std::vector<std::string> images;
  size_t batch_size = 8;
  int64_t top = 5;
};

std::vector<fs::path> find_images(const std::vector<std::string>& inputs) {
  std::vector<fs::path> images;
  for (auto& input : inputs) {
    if (!fs::is_directory(input)) {
      images.push_back(input);
      continue;
    }
    size_t before = images.size();
    for (auto& entry : fs::recursive_directory_iterator(input)) {
      std::string extension = entry.path().extension().string();
      for (char& c : extension) c = char(std::tolower(c));
      if (entry.is_regular_file() && (extension == ".jpg" || extension == ".jpeg" ||
                                      extension == ".png" || extension == ".webp"))
        images.push_back(entry.path());
    }
    if (images.size() == before)
      throw NotFoundError(input + ": no .jpg, .jpeg, .png or .webp in this folder");
    std::sort(images.begin() + std::ptrdiff_t(before), images.end());
  }
  return images;
}

torch::Tensor read_batch(const vision::ImageProcessor& processor, const fs::path* begin,
                         const fs::path* end) {
  std::vector<torch::Tensor> tensors;
  for (auto* path = begin; path != end; ++path) {
    auto values = processor.preprocess(vision::read_image(*path));
    tensors.push_back(
        torch::tensor(values).view({3, processor.output_height(), processor.output_width()}));
  }
  return torch::stack(tensors);
}

const torch::Tensor& logits_of(const NamedTensors& outputs) {
  auto* logits = outputs.find("logits");
  if (!logits || logits->dim() != 2)
    throw ArgumentError("this model gives no class scores (its outputs: " + outputs.names() +
                        "): use --input x.safetensors --output y.safetensors");
  return *logits;
}

void print_top(const fs::path& path, const torch::Tensor& logits, const AnyModel& model,
               const Arguments& arguments) {
  auto scores = torch::softmax(logits.to(torch::kFloat32), 0);
  auto [values, indices] = scores.topk(std::min(arguments.top, scores.size(0)));
  auto& config = model->base_config();
  bool labelled = config.num_labels == scores.size(0);
  if (!arguments.common.json) std::cout << printable(path.string()) << "\n";
  Json::Array predictions;
  for (int64_t i = 0; i < values.size(0); ++i) {
    int64_t index = indices[i].item<int64_t>();
    double score = values[i].item<float>();
    std::string label = labelled ? config.label(index) : std::to_string(index);
    if (arguments.common.json) {
      predictions.push_back(Json::Object{{"index", index},
                                         {"label", label},
                                         {"score", score},
                                         {"logit", double(logits[index].item<float>())}});
    } else {
      std::printf("  %6.2f %%  %s\n", score * 100, printable(label).c_str());
    }
  }
  if (arguments.common.json)
    std::cout << Json(Json::Object{{"input", path.string()}, {"predictions", predictions}}).dump(0)
              << std::endl;
  std::fflush(stdout);
}

void predict_images(const AnyModel& model, const Arguments& arguments) {
  auto processor = vision::ImageProcessor::from_pretrained(
      detail::find_folder(arguments.model, arguments.options.subfolder));
  auto images = find_images(arguments.images);
  ProgressBar bar("predicting", arguments.common.quiet || images.size() <= arguments.batch_size);
  for (size_t i = 0; i < images.size(); i += arguments.batch_size) {
    size_t end = std::min(images.size(), i + arguments.batch_size);
    auto batch = read_batch(processor, images.data() + i, images.data() + end)
                     .to(model->device(), model->dtype());
    auto logits = logits_of(model(batch)).cpu();
    bar.update(end, images.size());
    for (size_t k = i; k < end; ++k) print_top(images[k], logits[int64_t(k - i)], model, arguments);
  }
}

void predict_tensors(const AnyModel& model, const Arguments& arguments) {
  NamedTensors inputs;
  for (auto& [name, tensor] : load_file(arguments.input))
    inputs.insert(name, tensor.is_floating_point() ? tensor.to(model->device(), model->dtype())
                                                   : tensor.to(model->device()));
  NamedTensors outputs = model(inputs);
  save_file(outputs, arguments.output);
  if (!arguments.common.quiet && !arguments.common.json)
    std::cout << arguments.output << ": " << outputs.names() << "\n";
}

void predict(Arguments& arguments) {
  bool tensors = !arguments.input.empty() || !arguments.output.empty();
  if (tensors && (arguments.input.empty() || arguments.output.empty() || !arguments.images.empty()))
    throw ArgumentError("--input and --output go together, without images");
  if (!tensors && arguments.images.empty())
    throw ArgumentError("give at least one image or folder of images");
  if (arguments.batch_size == 0) throw ArgumentError("--batch-size must be at least 1");
  ProgressBar bar("loading", arguments.common.quiet);
  arguments.options.progress = [&](uint64_t done, uint64_t total) { bar.update(done, total); };
  if (!arguments.common.quiet)
    arguments.options.notice = [](const std::string& line) { std::cerr << line << std::endl; };
  try {
    arguments.options.device = c10::Device(arguments.device);
  } catch (const c10::Error&) {
    throw ArgumentError("--device '" + printable(arguments.device, 40) +
                        "': expected cpu, cuda, cuda:1, …");
  }
  AnyModel model =
      AutoModelForImageClassification::from_pretrained(arguments.model, arguments.options);
  c10::InferenceMode guard;
  tensors ? predict_tensors(model, arguments) : predict_images(model, arguments);
}

}  // namespace

void add_predict(CLI::App& app) {
  static Arguments arguments;
  auto* command =
      app.add_subcommand("predict", "images in, labels out; or named tensors in and out");
  command->add_option("MODEL", arguments.model, "folder of the model")->required();
  command->add_option("INPUT", arguments.images, "images, or folders of images");
  command->add_option("--input", arguments.input, "named tensors for forward")
      ->type_name("X.safetensors");
  command->add_option("--output", arguments.output, "where its outputs go")
      ->type_name("Y.safetensors");
  command->add_option("--batch-size", arguments.batch_size, "images at once")
      ->capture_default_str();
  command->add_option("--top", arguments.top, "how many labels")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  add_model_options(*command, arguments.options, arguments.device);
  add_common(*command, arguments.common);
  command->footer(
      "Examples:\n  pretrained predict custom-resnet50d photo.jpg --trust-remote-code\n"
      "  pretrained predict custom-resnet50d photos/ --trust-remote-code --json\n"
      "  pretrained predict custom-resnet50d --input x.safetensors --output y.safetensors "
      "--trust-remote-code");
  command->callback([] { predict(arguments); });
}

}  // namespace pretrained::cli
