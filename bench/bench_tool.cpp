// Our side of the benchmarks; bench.py runs it beside its peers. Prints one number of seconds per
// line.
//
//   start FOLDER               the whole program is timed from outside, until the first logits
//   load FILE ready|touched    tensors of a safetensors file
//   model FOLDER ready|touched the same into a module of a registered class
//   construct                  ResNet-50d for loading
//   code FOLDER                AutoModel on a folder with code: first call of this process
//   registered FOLDER          the same with the class registered
//   isolation FOLDER           calls of 8 images here and isolated, by turns: medians of both
//   cycles FOLDER COUNT        isolated loads: how many bytes and descriptors are left of them
//   make FOLDER [small], make-large   write such folders
#include <pretrained/model/weights.h>
#include <pretrained/pretrained.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "../examples/resnet_model/modeling_resnet.h"

using Clock = std::chrono::steady_clock;
static double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

static double touch(const pretrained::NamedTensors& tensors) {
  double sum = 0;
  for (auto& [name, tensor] : tensors) sum += tensor.sum().to(torch::kFloat64).item<double>();
  return sum;
}

// Modules of a size that is a parameter, so that 2 GB of weights have somewhere to go.
struct LargeConfig : pretrained::PretrainedConfig<LargeConfig> {
  static constexpr auto model_type = "large";
  int64_t layers = 1, hidden_size = 1;
  PRETRAINED_FIELDS(layers, hidden_size)
};
struct LargeModel : pretrained::PreTrainedModel<LargeModel, LargeConfig> {
  static constexpr std::array inputs{"tensor"};
  explicit LargeModel(const Config& config) : PreTrainedModel(config) {
    for (int64_t i = 0; i < config.layers; ++i)
      register_module("layer" + std::to_string(i),
                      torch::nn::Linear(config.hidden_size, config.hidden_size));
  }
  torch::Tensor forward(torch::Tensor tensor) { return tensor; }
};

static std::pair<double, double> isolation_medians(const std::string& folder) {
  using pretrained::AutoModelForImageClassification;
  auto here = AutoModelForImageClassification::from_pretrained(folder, {.trust_remote_code = true});
  auto isolated = AutoModelForImageClassification::from_pretrained(
      folder, {.isolation = pretrained::Isolation::process});
  c10::InferenceMode guard;
  auto images = torch::ones({8, 3, 224, 224});
  std::vector<double> times[2];
  for (int i = 0; i < 11; ++i)
    for (int side : {0, 1}) {
      auto start = Clock::now();
      (side ? isolated : here)(images);
      if (i > 0) times[side].push_back(since(start));
    }
  for (auto& side : times) std::sort(side.begin(), side.end());
  return {times[0][times[0].size() / 2], times[1][times[1].size() / 2]};
}

static std::pair<long, long> isolated_cycles(const std::string& folder, int count) {
  auto resident = [] {
    std::ifstream file("/proc/self/statm");
    long all, pages;
    file >> all >> pages;
    return pages * sysconf(_SC_PAGESIZE);
  };
  auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator());
  };
  long memory = 0, files = 0;
  for (int i = -10; i < count; ++i) {
    if (i == 0) memory = resident(), files = open_files();
    pretrained::AutoModelForImageClassification::from_pretrained(
        folder, {.isolation = pretrained::Isolation::process});
  }
  return {resident() - memory, open_files() - files};
}

int main(int argc, char** argv) try {
  std::string what = argv[1];
  auto start = Clock::now();
  if (what == "start") {
    auto model = pretrained::AutoModelForImageClassification::from_pretrained(
        argv[2], {.trust_remote_code = true});
    c10::InferenceMode guard;
    std::cout << model(torch::ones({1, 3, 224, 224}))["logits"][0][0].item<float>() << "\n";
  } else if (what == "load") {
    auto tensors = pretrained::load_file(argv[2]);
    if (argc > 3 && std::string(argv[3]) == "touched") touch(tensors);
    std::cout << since(start) << "\n";
  } else if (what == "model") {
    auto model = LargeModel::from_pretrained(argv[2]);
    if (argc > 3 && std::string(argv[3]) == "touched") touch(model->state_dict());
    std::cout << since(start) << "\n";
  } else if (what == "construct") {
    ResnetConfig config{
        .block_type = "bottleneck", .stem_width = 32, .stem_type = "deep", .avg_down = true};
    pretrained::NoInitGuard guard;
    {
      ResnetModelForImageClassification warm_up(config);
    }
    for (int i = 0; i < 5; ++i) {
      start = Clock::now();
      ResnetModelForImageClassification model(config);
      std::cout << since(start) << "\n";
    }
  } else if (what == "code") {
    auto model = pretrained::AutoModelForImageClassification::from_pretrained(
        argv[2], {.trust_remote_code = true});
    std::cout << since(start) << "\n";
  } else if (what == "registered") {
    pretrained::AutoConfig::register_<ResnetConfig>("resnet");
    pretrained::AutoModelForImageClassification::register_<ResnetConfig,
                                                           ResnetModelForImageClassification>();
    auto model = pretrained::AutoModelForImageClassification::from_pretrained(argv[2]);
    std::cout << since(start) << "\n";
  } else if (what == "isolation") {
    auto [here, isolated] = isolation_medians(argv[2]);
    std::cout << here << "\n" << isolated << "\n";
  } else if (what == "cycles") {
    auto [memory, files] = isolated_cycles(argv[2], std::stoi(argv[3]));
    std::cout << memory << "\n" << files << "\n";
  } else if (what == "make") {
    ResnetConfig config{
        .block_type = "bottleneck", .stem_width = 32, .stem_type = "deep", .avg_down = true};
    if (argc > 3) config.layers = {1, 1, 1, 1};
    ResnetConfig::register_for_auto_class();
    ResnetModelForImageClassification::register_for_auto_class("AutoModelForImageClassification");
    ResnetModelForImageClassification(config).save_pretrained(argv[2]);
  } else if (what == "make-large") {
    LargeModel(LargeConfig{.layers = std::stoll(argv[3]), .hidden_size = std::stoll(argv[4])})
        .save_pretrained(argv[2]);
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
