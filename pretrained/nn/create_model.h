#pragma once
// timm's registry of ResNets: every model of timm 1.0.31's resnet.py that is made of what
// timm::ResNet has. Those left out, and why: docs/timm.md. Mirrors timm.create_model and
// timm.list_models.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/nn/timm_resnet.h"

namespace timm {

// How a model's images are prepared, and where its weights are; timm's `pretrained_cfg`.
struct DefaultConfig {
  std::string name;       // "resnet50d.ra2_in1k"
  std::string hf_hub_id;  // "timm/resnet50d.ra2_in1k"; empty: none
  std::array<int64_t, 3> input_size = {3, 224, 224};
  std::array<int64_t, 3> test_input_size = {};  // zeros: as input_size
  std::array<int64_t, 2> pool_size = {7, 7};
  double crop_pct = 0.875;
  double test_crop_pct = 0;  // 0: as crop_pct
  std::string crop_mode = "center";
  std::string interpolation = "bilinear";
  std::array<double, 3> mean = {0.485, 0.456, 0.406};
  std::array<double, 3> std = {0.229, 0.224, 0.225};
  int64_t num_classes = 1000;
  std::string first_conv = "conv1";  // "conv1.0" for deep stems
  std::string classifier = "fc";
};

// Python's keyword arguments of create_model. Unset: as the model has it.
struct CreateModelOptions {
  // Weights come from the model's repository on the hub (HF_ENDPOINT; "timm/resnet50d.ra2_in1k"),
  // into the cache that Python shares. The classifier's stay random where num_classes is another
  // than theirs; the first convolution's are adapted to in_chans as timm does it.
  bool pretrained = false;
  std::optional<int64_t> num_classes;
  std::optional<int64_t> in_chans;
  std::optional<int64_t> output_stride;
  std::optional<std::string> global_pool;
  double drop_rate = 0;
  double drop_path_rate = 0;
};

// `name` with or without its tag: "resnet50d", "resnet50d.ra2_in1k"; or a repository in the format
// of timm's, "hf-hub:org/name[@revision]", whose config.json says which architecture it is. Throws
// pretrained::NotFoundError with near matches, pretrained::ArgumentError, and for pretrained ones
// the errors of pretrained/hub/errors.h. Training mode.
PRETRAINED_API ResNet create_model(const std::string& name, const CreateModelOptions& options = {});
PRETRAINED_API ResNetOptions model_options(const std::string& name);
// That of the tag; without one, of the model's first tag.
PRETRAINED_API DefaultConfig default_config(const std::string& name);
// Names that match ('*' and '?'), in timm's natural order: resnet18 before resnet101. With
// `pretrained`, those with tags that have weights.
PRETRAINED_API std::vector<std::string> list_models(const std::string& pattern = "*",
                                                    bool pretrained = false);

// Defined where weights and hub meet, in pretrained/model/timm_weights.cpp: this room knows
// neither.
namespace detail {
struct HubModel {
  std::string architecture;  // "resnet50d"
  int64_t num_classes = 1000;
  std::string global_pool;
};
HubModel read_hub_config(const std::string& repo);
// `repo` of `num_classes` classes and 3 channels into `model`.
void load_pretrained(ResNet& model, const ResNetOptions& options, const std::string& repo,
                     int64_t num_classes);
}  // namespace detail

}  // namespace timm
