#include <torch/torch.h>

#include "pretrained/base/error.h"
#include "pretrained/hub/client.h"
#include "pretrained/model/locate.h"
#include "pretrained/model/weights.h"
#include "pretrained/nn/create_model.h"

// timm's repositories on a hub: config.json names an architecture, model.safetensors is its
// state_dict. Mirrors
// https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/_hub.py and
// _builder.py

namespace timm::detail {
namespace {
using namespace pretrained;

// As timm's adapt_input_conv: summed for one channel, else repeated and scaled to keep the sum.
torch::Tensor adapt_input_conv(const torch::Tensor& weight, int64_t in_chans) {
  auto values = weight.to(torch::kFloat32);
  int64_t base = weight.size(1);
  if (in_chans == 1) {
    values = values.sum(1, /*keepdim=*/true);
  } else {
    int64_t repeat = (in_chans + base - 1) / base;
    values = values.repeat({1, repeat, 1, 1}).narrow(1, 0, in_chans) * (double(base) / in_chans);
  }
  return values.to(weight.scalar_type());
}

NamedTensors fitted(const NamedTensors& stored, const ResNetOptions& options, int64_t num_classes) {
  NamedTensors fitted;
  for (auto& [name, tensor] : stored) {
    bool stem = name == "conv1.weight" || name == "conv1.0.weight";
    bool classifier = name == "fc.weight" || name == "fc.bias";
    if (classifier && options.num_classes != num_classes) continue;
    bool adapt = stem && tensor.dim() == 4 && tensor.size(1) == 3 && options.in_chans != 3;
    fitted.insert(name, adapt ? adapt_input_conv(tensor, options.in_chans) : tensor);
  }
  return fitted;
}

void load_strictly(ResNet& model, const NamedTensors& weights, const std::string& repo) {
  auto report = load_state_dict(*model, weights, /*strict=*/false);
  std::erase_if(report.missing_keys, [](auto& name) { return name.starts_with("fc."); });
  auto list = [](const std::vector<std::string>& names, const char* what) {
    return names.empty() ? std::string()
                         : "; " + std::to_string(names.size()) + " " + what + ", first " +
                               printable(names[0]);
  };
  if (!report.missing_keys.empty() || !report.unexpected_keys.empty())
    throw WeightsError(repo + ": the weights do not fit" + list(report.missing_keys, "missing") +
                           list(report.unexpected_keys, "unexpected"),
                       report.missing_keys, report.unexpected_keys, {});
}

}  // namespace

HubModel read_hub_config(const std::string& repo) {
  if (!hub::parse_repo_reference(repo))
    throw ArgumentError("hf-hub:" + printable(repo) + ": expected org/name or org/name@revision");
  Located at = locate(repo);
  FieldPath where;
  Json config = pretrained::detail::read_config_file(at.config_file, where);
  where.source = at.name() + "/config.json";
  HubModel model;
  auto* architecture = config.find("architecture");
  if (!architecture)
    throw ConfigError(where.source +
                      ": no field 'architecture': not a repository in timm's format");
  read_field(*architecture, model.architecture, where.member("architecture"));
  auto* cfg = config.find("pretrained_cfg");
  for (auto* holder : {cfg, const_cast<const Json*>(&config)})
    if (auto* classes = holder ? holder->find("num_classes") : nullptr)
      read_field(*classes, model.num_classes, where.member("num_classes"));
  if (auto* pool = config.find("global_pool"); pool && !pool->is_null())
    read_field(*pool, model.global_pool, where.member("global_pool"));
  if (auto* args = config.find("model_args"))
    if (auto* object = args->get_if<Json::Object>(); object && !object->empty())
      throw ConfigError(where.source + ": field 'model_args." + printable(object->begin()->first) +
                        "': arguments of the architecture are not read here; make a "
                        "timm::ResNet with them and load the weights into it");
  return model;
}

void load_pretrained(ResNet& model, const ResNetOptions& options, const std::string& repo,
                     int64_t num_classes) {
  FromPretrained loading;
  Located at = locate(repo, loading);
  fetch_weights(at, loading);
  load_strictly(model, fitted(load_folder(at.folder, ""), options, num_classes), at.name());
}

}  // namespace timm::detail
