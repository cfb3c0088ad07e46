#include <algorithm>
#include <map>
#include <regex>

#include "pretrained/base/error.h"
#include "pretrained/model/no_init.h"
#include "pretrained/model/weights.h"

// From checkpoint to model: names, dtypes and the strict report.

namespace pretrained {
namespace fs = std::filesystem;
namespace {

// '*' stands for any text.
bool matches(const std::string& pattern, const std::string& text) {
  size_t p = 0, t = 0, star = std::string::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != std::string::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool allowed(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](auto& pattern) { return matches(pattern, name); });
}

std::string shape_text(const at::Tensor& tensor) {
  std::string out;
  for (auto size : tensor.sizes()) out += (out.empty() ? "" : ", ") + std::to_string(size);
  return "[" + out + "]";
}

NamedTensors rename(const NamedTensors& checkpoint, const FromPretrained& options) {
  if (options.key_mapping.empty()) return checkpoint;
  std::vector<std::pair<std::regex, std::string>> rules;
  for (auto& [pattern, replacement] : options.key_mapping) {
    try {
      rules.emplace_back(std::regex(pattern), replacement);
    } catch (const std::regex_error&) {
      throw ArgumentError("key_mapping: '" + printable(pattern) + "' is not a regular expression");
    }
  }
  NamedTensors renamed;
  for (auto& [name, tensor] : checkpoint) {
    std::string key = name;
    for (auto& [pattern, replacement] : rules) {
      std::string changed = std::regex_replace(key, pattern, replacement);
      if (changed == key) continue;
      key = std::move(changed);
      break;
    }
    if (renamed.contains(key))
      throw ArgumentError("key_mapping: two tensors become '" + printable(key) + "'");
    renamed.insert(key, tensor);
  }
  return renamed;
}

// Tensors that share their memory are one tensor under several names: one of them in the file is
// enough.
std::map<const void*, std::vector<std::string>> tied_names(const NamedTensors& state) {
  std::map<const void*, std::vector<std::string>> names;
  for (auto& [name, tensor] : state)
    if (tensor.numel() > 0) names[tensor.data_ptr()].push_back(name);
  return names;
}

// "model.layer1.{0, 1, 2}.bn1.weight"-like lists would be shorter; names in full are what one
// searches for.
std::string list(const std::vector<std::string>& names, const char* what) {
  if (names.empty()) return "";
  constexpr size_t kShown = 8;
  std::string out = std::string("; ") + std::to_string(names.size()) + " " + what + ": ";
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
    out += (i ? ", " : "") + printable(names[i]);
  return out + (names.size() > kShown ? ", …" : "");
}

struct Plan {
  std::vector<std::pair<at::Tensor, at::Tensor>>
      assignments;  // the model's own tensor, the checkpoint's
  LoadReport report;
  std::vector<std::string> errors_missing, errors_unexpected, errors_mismatched;
};

Plan compare(const NamedTensors& own, const NamedTensors& checkpoint,
             const FromPretrained& options) {
  Plan plan;
  auto tied = tied_names(own);
  for (auto& [name, tensor] : own) {
    const at::Tensor* source = checkpoint.find(name);
    if (!source && tensor.numel() > 0)
      for (auto& other : tied[tensor.data_ptr()])
        if (!source) source = checkpoint.find(other);
    if (!source) {
      plan.report.missing_keys.push_back(name);
      if (!allowed(options.allow_missing, name)) plan.errors_missing.push_back(name);
    } else if (source->sizes() != tensor.sizes()) {
      plan.report.mismatched_keys.push_back(name);
      if (!options.ignore_mismatched_sizes)
        plan.errors_mismatched.push_back(name + " (" + shape_text(*source) + " in the file, " +
                                         shape_text(tensor) + " in the model)");
    } else {
      plan.assignments.emplace_back(tensor, *source);
    }
  }
  for (auto& [name, tensor] : checkpoint) {
    if (own.contains(name)) continue;
    plan.report.unexpected_keys.push_back(name);
    if (!allowed(options.allow_unexpected, name)) plan.errors_unexpected.push_back(name);
  }
  return plan;
}

std::optional<torch::Dtype> known_dtype(const std::string& name) {
  try {
    return parse_dtype(name);
  } catch (const ArgumentError&) {
    return std::nullopt;
  }
}

std::optional<torch::Dtype> wanted_dtype(const Model& model, const fs::path& folder,
                                         const NamedTensors& checkpoint,
                                         const FromPretrained& options) {
  if (options.dtype != "auto") {
    auto dtype = parse_dtype(options.dtype);
    if (!at::isFloatingType(dtype))
      throw ArgumentError("dtype: parameters are floating-point, not " + options.dtype);
    return dtype;
  }
  if (auto& name = model.base_config().dtype; !name.empty()) {
    auto dtype = known_dtype(name);
    if (!dtype || !at::isFloatingType(*dtype))
      throw ConfigError((folder / "config.json").string() + ": field 'dtype': '" +
                        printable(name, 40) +
                        "' is no floating-point dtype; for example float32, bfloat16, float16");
    return dtype;
  }
  for (auto& [name, tensor] : checkpoint)
    if (tensor.is_floating_point()) return tensor.scalar_type();
  return std::nullopt;
}

// Before anything is read: what LibTorch would say in the middle, with a stack trace.
void check_device(const c10::Device& device) {
  std::string why;
  try {
    if (device.is_meta()) why = "it holds no values";
    torch::empty({0}, torch::TensorOptions().device(device));
  } catch (const c10::Error& error) {
    why = error.what_without_backtrace();
  }
  if (!why.empty())
    throw ArgumentError("device '" + device.str() + "' cannot be used here: " + printable(why) +
                        "; use cpu");
}

std::string one_line(const std::vector<std::string>& names) {
  std::string text = list(names, "tensors");
  return text.empty() ? text : text.substr(2);
}

void notice_new_weights(const Model& model, const fs::path& folder, const Plan& plan,
                        const FromPretrained& options) {
  auto fresh = plan.report.missing_keys;
  fresh.insert(fresh.end(), plan.report.mismatched_keys.begin(), plan.report.mismatched_keys.end());
  if (!options.notice || fresh.empty()) return;
  options.notice(folder.string() + ": some weights of " + model.model_class().name +
                 " are newly initialized: " + one_line(fresh) +
                 ". You should probably TRAIN this model to be able to use it for predictions.");
}

// Mapped weights that stay as they are take no time; converting and moving does.
void assign(const Model& model, const Plan& plan, std::optional<torch::Dtype> dtype,
            const FromPretrained& options) {
  uint64_t done = 0, total = 0;
  for (auto& [own, stored] : plan.assignments) total += stored.nbytes();
  auto report = [&] {
    if (options.progress) options.progress(done, total);
  };
  report();
  std::map<const void*, at::Tensor> values;  // by the model's memory: tied tensors stay tied
  for (auto& [own, stored] : plan.assignments) {
    if (model.keeps_memory()) {
      at::Tensor(own).copy_(aligned(stored));
      done += stored.nbytes();
      report();
      continue;
    }
    at::Tensor& value = values[own.numel() > 0 ? own.data_ptr() : &own];
    if (!value.defined() || value.sizes() != own.sizes()) {
      at::Tensor source = aligned(stored);
      bool convert = own.is_floating_point() && dtype;
      value = source.to(options.device, convert ? *dtype : own.scalar_type());
      if (!options.use_mmap && value.is_same(stored)) value = source.clone();
    }
    at::Tensor(own).set_data(value);
    done += stored.nbytes();
    report();
  }
}

}  // namespace

namespace detail {

void load_into(Model& model, const fs::path& folder, const FromPretrained& options) {
  check_device(options.device);
  NamedTensors checkpoint = rename(load_folder(folder, options.variant), options);
  auto dtype = wanted_dtype(model, folder, checkpoint, options);
  model.begin_loading(dtype);
  Plan plan = compare(model.state_dict(), checkpoint, options);
  if (options.report) *options.report = plan.report;
  if (!plan.errors_missing.empty() || !plan.errors_unexpected.empty() ||
      !plan.errors_mismatched.empty())
    throw WeightsError(folder.string() + ": the weights do not fit " + model.model_class().name +
                           list(plan.errors_missing, "missing") +
                           list(plan.errors_unexpected, "unexpected") +
                           list(plan.errors_mismatched, "of another shape"),
                       plan.errors_missing, plan.errors_unexpected, plan.report.mismatched_keys);
  notice_new_weights(model, folder, plan, options);
  torch::NoGradGuard no_grad;
  assign(model, plan, dtype, options);
  // What the checkpoint lacks (and may lack) follows in dtype and device.
  if (dtype && !plan.report.all_matched() && !model.keeps_memory()) model.to(*dtype);
  if (!options.device.is_cpu()) model.to(options.device);
}

std::shared_ptr<Model> make_for_loading(const ModelClass& model_class, const ConfigBase& config,
                                        const fs::path& folder, const FromPretrained& options) {
  std::shared_ptr<Model> model;
  bool complete = options.allow_missing.empty() && !options.ignore_mismatched_sizes;
  if (complete) {
    NoInitGuard no_init;
    model = model_class.make(config);
  } else {
    model = model_class.make(config);
  }
  load_into(*model, folder, options);
  model->eval();
  return model;
}

}  // namespace detail
}  // namespace pretrained
