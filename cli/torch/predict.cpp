#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <span>

#include "pretrained/base/error.h"
#include "pretrained/model/auto.h"
#include "pretrained/model/weights.h"
#include "pretrained/vision/image.h"
#include "pretrained/vision/image_processor.h"
#include "verbs.h"

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

bool has_image_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = char(std::tolower(static_cast<unsigned char>(c)));
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".webp";
}

// Whatever is called an image is one: a link that leads nowhere is reported when it is read.
void walk(const std::string& folder, std::vector<fs::path>& images, size_t& skipped) {
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied,
                                         error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code unknown;
    if (entry->is_directory(unknown)) continue;
    has_image_extension(entry->path()) ? images.push_back(entry->path()) : void(++skipped);
  }
  if (error) throw IoError(folder + ": " + error.message());
}

std::vector<fs::path> find_images(const Predict& arguments) {
  std::vector<fs::path> images;
  for (auto& input : arguments.images) {
    std::error_code error;
    if (!fs::is_directory(input, error)) {
      if (!fs::exists(fs::symlink_status(input, error)))
        throw NotFoundError(input + ": no such file or folder");
      images.push_back(input);
      continue;
    }
    size_t before = images.size(), skipped = 0;
    walk(input, images, skipped);
    if (images.size() == before)
      throw NotFoundError(input + ": no .jpg, .jpeg, .png or .webp in this folder");
    if (skipped > 0 && !arguments.common.quiet)
      print_line(input + ": " + std::to_string(skipped) +
                 (skipped == 1 ? " file that is" : " files that are") +
                 " no .jpg, .jpeg, .png or .webp skipped");
    std::sort(images.begin() + std::ptrdiff_t(before), images.end());
  }
  return images;
}

// A batch of pictures of which some may be broken.
struct Batch {
  std::vector<torch::Tensor> tensors;
  std::vector<std::string> errors;  // one for each picture; empty: the next of the tensors
};

Batch read_batch(const vision::ImageProcessor& processor, std::span<const fs::path> paths) {
  Batch batch;
  int64_t height = processor.output_height(), width = processor.output_width();
  for (auto& path : paths) {
    std::string error;
    try {
      auto values = processor.preprocess(vision::read_image(path));
      batch.tensors.push_back(torch::tensor(values).view({3, height, width}));
    } catch (const Error& broken) {
      error = broken.what();
      if (!error.starts_with(path.string())) error = path.string() + ": " + error;
    }
    batch.errors.push_back(error);
  }
  return batch;
}

const torch::Tensor& logits_of(const NamedTensors& outputs) {
  auto* logits = outputs.find("logits");
  if (!logits || logits->dim() != 2)
    throw ArgumentError("this model gives no class scores (its outputs: " + outputs.names() +
                        "): use --input x.safetensors --output y.safetensors");
  return *logits;
}

void print_top(const fs::path& path, const torch::Tensor& logits, const AnyModel& model,
               const Predict& arguments) {
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

void print_error(const fs::path& path, const std::string& error, const Predict& arguments) {
  print_line("pretrained: " + error);
  if (arguments.common.json)
    std::cout << Json(Json::Object{{"input", path.string()}, {"error", error}}).dump(0)
              << std::endl;
}

// How many pictures of the batch are broken.
size_t predict_batch(const AnyModel& model, const Batch& batch, std::span<const fs::path> paths,
                     ProgressBar& bar, const Predict& arguments) {
  torch::Tensor logits;
  if (!batch.tensors.empty())
    logits =
        logits_of(model(torch::stack(batch.tensors).to(model->device(), model->dtype()))).cpu();
  bar.clear();
  int64_t row = 0;
  for (size_t i = 0; i < paths.size(); ++i)
    if (batch.errors[i].empty())
      print_top(paths[i], logits[row++], model, arguments);
    else
      print_error(paths[i], batch.errors[i], arguments);
  return paths.size() - batch.tensors.size();
}

void predict_images(const AnyModel& model, const Predict& arguments) {
  auto images = find_images(arguments);
  auto processor = vision::ImageProcessor::from_pretrained(model->base_config().loaded_from);
  ProgressBar bar("predicting", arguments.common.quiet || images.size() <= arguments.batch_size);
  size_t broken = 0;
  for (size_t i = 0; i < images.size(); i += arguments.batch_size) {
    size_t count = std::min(arguments.batch_size, images.size() - i);
    std::span<const fs::path> paths(&images[i], count);
    broken += predict_batch(model, read_batch(processor, paths), paths, bar, arguments);
    bar.update(i + count, images.size());
  }
  bar.clear();
  if (broken > 0)
    throw FormatError(std::to_string(broken) + " of " + std::to_string(images.size()) +
                      (images.size() == 1 ? " image" : " images") + " could not be read");
}

Json::Array summary(const NamedTensors& tensors) {
  Json::Array list;
  for (auto& [name, tensor] : tensors) {
    Json::Array shape;
    for (int64_t size : tensor.sizes()) shape.push_back(size);
    list.push_back(Json::Object{
        {"name", name}, {"dtype", dtype_name(tensor.scalar_type())}, {"shape", shape}});
  }
  return list;
}

void predict_tensors(const AnyModel& model, const Predict& arguments) {
  NamedTensors inputs;
  for (auto& [name, tensor] : load_file(arguments.input))
    inputs.insert(name, tensor.is_floating_point() ? tensor.to(model->device(), model->dtype())
                                                   : tensor.to(model->device()));
  NamedTensors outputs = model(inputs);
  save_file(outputs, arguments.output);
  if (arguments.common.json)
    std::cout << Json(Json::Object{{"input", arguments.input},
                                   {"output", arguments.output},
                                   {"tensors", summary(outputs)}})
                     .dump(0)
              << "\n";
  else if (!arguments.common.quiet)
    std::cout << printable(arguments.output) << ": " << printable(outputs.names(), 2000) << "\n";
}

FromPretrained options_of(const Predict& arguments) {
  FromPretrained options{.revision = arguments.revision,
                         .subfolder = arguments.subfolder,
                         .variant = arguments.variant,
                         .dtype = arguments.dtype,
                         .code = arguments.code,
                         .lock = arguments.lock};
  if (arguments.isolate) options.isolation = Isolation::process;
  try {
    options.device = c10::Device(arguments.device);
  } catch (const c10::Error&) {
    throw ArgumentError("--device '" + printable(arguments.device, 40) +
                        "': expected cpu, cuda, cuda:1, …");
  }
  if (options.device.is_cuda() && !torch::cuda::is_available())
    throw ArgumentError("--device " + printable(arguments.device, 40) +
                        ": LibTorch finds no CUDA device here; use --device cpu");
  return options;
}

// With somebody at the terminal, code that is not trusted yet is shown and asked about; with
// --trust-remote-code only where it has changed.
TrustRemoteCode trust_of(const Predict& arguments, const std::function<void()>& clear) {
  if (!can_ask()) return arguments.trust_remote_code ? TrustRemoteCode(true) : TrustRemoteCode();
  return TrustPolicy{.ask = [&arguments, clear](const CodeReview& review) {
    if (arguments.trust_remote_code && review.trusted_before.empty()) return true;
    clear();
    print_review(review);
    return ask("Compile and run this code?");
  }};
}

AnyModel load(const Predict& arguments) {
  FromPretrained options = options_of(arguments);
  TransferProgress transfer("fetching", arguments.common.quiet);
  ProgressBar bar("loading", arguments.common.quiet);
  auto clear = [&] {
    transfer.clear();
    bar.clear();
  };
  options.trust_remote_code = trust_of(arguments, clear);
  options.progress = [&](uint64_t done, uint64_t total) {
    transfer.clear();
    bar.update(done, total);
  };
  std::mutex screen;  // files come, and what the connection says, in several threads
  options.on_transfer = [&](const hub::TransferEvent& event) {
    std::lock_guard lock(screen);
    transfer.update(event);
  };
  if (!arguments.common.quiet)
    options.notice = [&](const std::string& line) {
      std::lock_guard lock(screen);
      clear();
      print_line(line);
    };
  // Named tensors suit any class.
  std::string auto_class = arguments.auto_class;
  if (auto_class.empty() && arguments.input.empty())
    auto_class = AutoModelForImageClassification::name;
  return detail::auto_from_pretrained(auto_class, arguments.model, options);
}

}  // namespace

void predict(const Predict& arguments) {
  bool tensors = !arguments.input.empty() || !arguments.output.empty();
  if (tensors && (arguments.input.empty() || arguments.output.empty() || !arguments.images.empty()))
    throw ArgumentError("--input and --output go together, without images");
  if (!tensors && arguments.images.empty())
    throw ArgumentError("give at least one image or folder of images");
  if (arguments.batch_size == 0) throw ArgumentError("--batch-size must be at least 1");
  AnyModel model = load(arguments);
  c10::InferenceMode guard;
  tensors ? predict_tensors(model, arguments) : predict_images(model, arguments);
}

}  // namespace pretrained::cli
