#pragma once
#include <pretrained/model.h>
#include <torch/nn/modules/linear.h>

struct TinyConfig : pretrained::PretrainedConfig<TinyConfig> {
  static constexpr auto model_type = "tiny";
  int64_t hidden_size = 4;
  PRETRAINED_FIELDS(hidden_size)
};

struct TinyModel : pretrained::PreTrainedModel<TinyModel, TinyConfig> {
  static constexpr std::array inputs{"tensor"};
  torch::nn::Linear linear;
  explicit TinyModel(const Config& config)
      : PreTrainedModel(config),
        linear(register_module("linear", torch::nn::Linear(3, config.hidden_size))) {}
  torch::Tensor forward(torch::Tensor tensor) { return linear->forward(tensor); }
};
