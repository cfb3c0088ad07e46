#pragma once
// Modules that do different things in training: one without any tensor, and one that is never
// trained, whatever the model is told.
#include <pretrained/model.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/dropout.h>

#include <array>

struct PartsConfig : pretrained::PretrainedConfig<PartsConfig> {
  static constexpr auto model_type = "parts";
  PRETRAINED_FIELDS()
};

struct Parts : pretrained::PreTrainedModel<Parts, PartsConfig> {
  static constexpr std::array inputs{"x"};
  torch::nn::BatchNorm1d norm, frozen;
  torch::nn::Dropout drop;
  explicit Parts(const Config& config)
      : PreTrainedModel(config),
        norm(register_module("norm", torch::nn::BatchNorm1d(4))),
        frozen(register_module("frozen", torch::nn::BatchNorm1d(4))),
        drop(register_module("drop", torch::nn::Dropout(1.0))) {}
  void train(bool on = true) override {
    PreTrainedModel::train(on);
    frozen->train(false);
  }
  pretrained::NamedTensors forward(torch::Tensor x) {
    return {{"norm", norm(x)}, {"frozen", frozen(x)}, {"drop", drop(x)}};
  }
};
