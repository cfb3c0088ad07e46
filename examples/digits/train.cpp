// Fits a small custom ResNet to a folder of pictures, FOLDER/<label>/*.png, in a loop of one's own,
// saves it with its code, and pushes it where a repository is named. Usage: demo_digits
// TRAIN_FOLDER HELD_OUT_FOLDER MODEL_FOLDER [REPOSITORY]
#include <pretrained/pretrained.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>

#include "../resnet_model/modeling_resnet.h"

namespace fs = std::filesystem;
using torch::indexing::Slice;

// Pictures as the model will see them later, by the same processor.
static std::pair<torch::Tensor, torch::Tensor> read_folder(
    const fs::path& folder, const pretrained::vision::ImageProcessor& processor) {
  std::vector<torch::Tensor> images;
  std::vector<int64_t> labels;
  std::vector<fs::path> files;
  for (auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".png") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (auto& file : files) {
    auto values = processor.preprocess(pretrained::vision::read_image(file));
    images.push_back(
        torch::tensor(values).view({3, processor.output_height(), processor.output_width()}));
    labels.push_back(std::stoll(file.parent_path().filename()));
  }
  return {torch::stack(images), torch::tensor(labels)};
}

static double accuracy(ResnetModelForImageClassification& model, const torch::Tensor& images,
                       const torch::Tensor& labels) {
  torch::NoGradGuard no_grad;
  model.eval();
  return (model(images)["logits"].argmax(1) == labels).to(torch::kFloat32).mean().item<double>();
}

// The model with its code, proved on `example`; then how pictures are prepared for it.
static std::string push(ResnetModelForImageClassification& model, const fs::path& folder,
                        const std::string& repo, const torch::Tensor& example) {
  model.push_to_hub(repo, {.commit_message = "A ResNet that reads digits",
                           .example = {{"tensor", example}},
                           .notice = [](auto& line) { std::cerr << line << "\n"; }});
  pretrained::hub::HubClient client;
  return pretrained::hub::upload_file(client, {repo}, folder / "preprocessor_config.json",
                                      "preprocessor_config.json")
      .oid;
}

int main(int argc, char** argv) try {
  if (argc != 4 && argc != 5)
    throw pretrained::ArgumentError(
        "usage: demo_digits TRAIN_FOLDER HELD_OUT_FOLDER MODEL_FOLDER [REPOSITORY]");
  torch::manual_seed(0);
  constexpr int kEpochs = 12, kBatch = 64;
  constexpr double kPeak = 3e-3;

  ResnetConfig config{
      .block_type = "basic", .layers = {1, 1, 1, 1}, .num_classes = 10, .stem_width = 32};
  config.num_labels = 10;
  for (int digit = 0; digit < 10; ++digit) config.id2label[digit] = std::to_string(digit);
  ResnetConfig::register_for_auto_class();
  ResnetModel::register_for_auto_class("AutoModel");
  ResnetModelForImageClassification::register_for_auto_class("AutoModelForImageClassification");
  ResnetModelForImageClassification model(config);

  pretrained::vision::ImageProcessor processor;
  processor.resize_shortest_edge(32).center_crop(32, 32);
  auto [images, labels] = read_folder(argv[1], processor);
  auto [held_out, held_out_labels] = read_folder(argv[2], processor);
  std::cerr << "training " << model.num_parameters() << " parameters on " << images.size(0)
            << " digits\n";

  torch::optim::AdamW optimizer(model.parameters(),
                                torch::optim::AdamWOptions(kPeak).weight_decay(0.05));
  auto started = std::chrono::steady_clock::now();
  int64_t steps = images.size(0) / kBatch * kEpochs, step = 0;
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    model.train();
    auto order = torch::randperm(images.size(0));
    double last_loss = 0;
    for (int64_t i = 0; i + kBatch <= images.size(0); i += kBatch, ++step) {
      double rate = kPeak * 0.5 * (1 + std::cos(M_PI * double(step) / double(steps)));
      static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options()).lr(rate);
      auto batch = order.index({Slice(i, i + kBatch)});
      optimizer.zero_grad();
      auto loss = model(images.index({batch}), labels.index({batch}))["loss"];
      loss.backward();
      optimizer.step();
      last_loss = loss.item<double>();
      int filled = int(30 * (step + 1) / steps);
      std::fprintf(stderr, "\r[%s%s] epoch %d/%d  loss %.4f",
                   std::string(size_t(filled), '#').c_str(),
                   std::string(size_t(30 - filled), '.').c_str(), epoch + 1, kEpochs, last_loss);
    }
  }
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  std::printf("\naccuracy on %lld held-out digits: %.2f %% after %.0f s\n",
              static_cast<long long>(held_out.size(0)),
              100 * accuracy(model, held_out, held_out_labels), seconds);
  model.save_pretrained(argv[3]);
  processor.save_pretrained(argv[3]);
  if (argc == 5)
    std::printf("pushed: %s@%s\n", argv[4],
                push(model, argv[3], argv[4], held_out.slice(0, 0, 1)).c_str());
  return 0;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
