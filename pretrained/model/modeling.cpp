#include "pretrained/model/modeling.h"

#include <algorithm>

#include "pretrained/base/error.h"

namespace pretrained {
namespace {

std::string quoted_list(const std::vector<std::string>& names) {
  std::string out;
  for (auto& name : names) out += (out.empty() ? "'" : ", '") + printable(name) + "'";
  return out;
}

std::string shape_text(const at::Tensor& tensor) {
  std::string out;
  for (auto size : tensor.sizes()) out += (out.empty() ? "" : ", ") + std::to_string(size);
  return "torch.Size([" + out + "])";
}

void collect_state(const torch::nn::Module& module, const std::string& prefix,
                   NamedTensors& state) {
  for (auto& item : module.named_parameters(/*recurse=*/false))
    state.insert(prefix + item.key(), item.value());
  for (auto& item : module.named_buffers(/*recurse=*/false))
    state.insert(prefix + item.key(), item.value());
  for (auto& child : module.named_children())
    collect_state(*child.value(), prefix + child.key() + ".", state);
}

}  // namespace

// LibTorch's modules(), apply() and clone() ask for a shared_ptr to the module. This one owns
// nothing, so that they work on a model that lives on the stack.
void Model::make_self() {
  self_ = {static_cast<torch::nn::Module*>(this), [](torch::nn::Module*) {}};
}
Model::~Model() = default;

void Model::set_config(std::shared_ptr<ConfigBase> config, const char* file) {
  config_ = std::move(config);
  source_file_ = file;
}

void Model::check_class(const std::type_info& expected) const {
  if (typeid(*this) == expected) return;
  throw ArgumentError(
      model_class().name +
      "'s forward would run instead of the one of the class derived from it: derive with " +
      "PreTrainedModel<My, MyConfig, " + model_class().name + ">");
}

void Model::check_inputs(const NamedTensors& given, std::span<const bool> required) const {
  auto& names = model_class().inputs;
  for (auto& [name, tensor] : given)
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw ArgumentError(model_class().name + ": there is no input '" + printable(name) +
                          "'; the inputs are " + quoted_list(names));
  for (size_t i = 0; i < names.size(); ++i)
    if (required[i] && !given.contains(names[i]))
      throw ArgumentError(model_class().name + ": the input '" + names[i] +
                          "' is missing; the inputs are " + quoted_list(names));
}

NamedTensors Model::call_in_order(const std::vector<torch::Tensor>& inputs) {
  auto& names = model_class().inputs;
  if (inputs.size() > names.size())
    throw ArgumentError(model_class().name + ": " + std::to_string(inputs.size()) +
                        " inputs given; the inputs are " + quoted_list(names));
  NamedTensors named;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].defined()) named.insert(names[i], inputs[i]);
  return call(named);
}

NamedTensors Model::state_dict() const { return pretrained::state_dict(*this); }

LoadReport Model::load_state_dict(const NamedTensors& state_dict, bool strict) {
  return pretrained::load_state_dict(*this, state_dict, strict);
}

int64_t Model::num_parameters(bool only_trainable) const {
  int64_t count = 0;
  for (auto& parameter : parameters())
    if (!only_trainable || parameter.requires_grad()) count += parameter.numel();
  return count;
}

torch::Dtype Model::dtype() const {
  for (auto& parameter : parameters())
    if (parameter.is_floating_point()) return parameter.scalar_type();
  return torch::kFloat32;
}

torch::Device Model::device() const {
  auto all = parameters();
  return all.empty() ? torch::Device(torch::kCPU) : all[0].device();
}

NamedTensors state_dict(const torch::nn::Module& module) {
  NamedTensors state;
  collect_state(module, "", state);
  return state;
}

LoadReport load_state_dict(torch::nn::Module& module, const NamedTensors& given, bool strict) {
  LoadReport report;
  NamedTensors own = state_dict(module);
  std::string errors;
  for (auto& [name, tensor] : own) {
    auto* source = given.find(name);
    if (!source) {
      report.missing_keys.push_back(name);
    } else if (source->sizes() != tensor.sizes()) {
      report.mismatched_keys.push_back(name);
      errors += "; size mismatch for " + name + ": copying a param with shape " +
                shape_text(*source) + " from checkpoint, the shape in current model is " +
                shape_text(tensor);
    }
  }
  for (auto& [name, tensor] : given)
    if (!own.contains(name)) report.unexpected_keys.push_back(name);
  if (strict && !report.missing_keys.empty())
    errors += "; Missing key(s) in state_dict: " + quoted_list(report.missing_keys);
  if (strict && !report.unexpected_keys.empty())
    errors += "; Unexpected key(s) in state_dict: " + quoted_list(report.unexpected_keys);
  if (!errors.empty())
    throw WeightsError(
        "Error(s) in loading state_dict for " + module.name() + ": " + errors.substr(2),
        report.missing_keys, report.unexpected_keys, report.mismatched_keys);
  torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : own)
    if (auto* source = given.find(name)) at::Tensor(tensor).copy_(*source);
  return report;
}

}  // namespace pretrained
