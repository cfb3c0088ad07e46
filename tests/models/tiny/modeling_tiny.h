#pragma once
#include "configuration_tiny.h"
#include "layers/head.h"

namespace tiny {

struct TinyModel : pretrained::PreTrainedModel<TinyModel, TinyConfig> {
  static constexpr std::array inputs{"tensor", "scale"};
  torch::nn::Linear linear;
  explicit TinyModel(const Config& config)
      : PreTrainedModel(config),
        linear(register_module("linear", torch::nn::Linear(3, config.hidden_size))) {}
  pretrained::NamedTensors forward(torch::Tensor tensor, std::optional<torch::Tensor> scale = {}) {
    auto hidden = apply_head(linear, tensor);
    return {{"hidden", scale ? hidden * *scale : hidden}, {"sum", hidden.sum()}};
  }
};

struct TinyForScoring : pretrained::PreTrainedModel<TinyForScoring, TinyConfig, TinyModel> {
  explicit TinyForScoring(const Config& config) : PreTrainedModel(config) {}
  torch::Tensor forward(torch::Tensor tensor, std::optional<torch::Tensor> = {}) {
    return TinyModel::forward(tensor)["sum"] * 2;
  }
};

}  // namespace tiny
