#pragma once
// Written against API level 1. Never change it.
#include <pretrained/nn/timm_resnet.h>
#include <torch/nn/modules/linear.h>
#include "configuration_frozen.h"

namespace models {
struct Frozen : pretrained::PreTrainedModel<Frozen, FrozenConfig> {
  static constexpr std::array inputs{"x", "y"};
  torch::nn::Linear linear;
  timm::ResNet trunk{nullptr};
  explicit Frozen(const Config& config)
      : PreTrainedModel(config), linear(register_module("linear", torch::nn::Linear(2, config.width))) {}
  pretrained::NamedTensors forward(torch::Tensor x, std::optional<torch::Tensor> y = {}) {
    auto z = linear->forward(x) * config().scale;
    if (y) z = z + *y;
    return {{"z", z}};
  }
};
}  // namespace models
