#pragma once
#include <pretrained/nn/timm_resnet.h>
#include <torch/nn/functional/loss.h>
#include "configuration_resnet.h"

inline timm::ResNetOptions options(const ResnetConfig& c) {
  return {.block = c.block_type,
          .layers = c.layers,
          .num_classes = c.num_classes,
          .in_chans = c.input_channels,
          .cardinality = c.cardinality,
          .base_width = c.base_width,
          .stem_width = c.stem_width,
          .stem_type = c.stem_type,
          .avg_down = c.avg_down};
}

struct ResnetModel : pretrained::PreTrainedModel<ResnetModel, ResnetConfig> {
  static constexpr std::array inputs{"tensor"};
  timm::ResNet model;
  explicit ResnetModel(const Config& config)
      : PreTrainedModel(config), model(register_module("model", timm::ResNet(options(config)))) {}
  torch::Tensor forward(torch::Tensor tensor) { return model->forward_features(tensor); }
};

struct ResnetModelForImageClassification
    : pretrained::PreTrainedModel<ResnetModelForImageClassification, ResnetConfig> {
  static constexpr std::array inputs{"tensor", "labels"};
  timm::ResNet model;
  explicit ResnetModelForImageClassification(const Config& config)
      : PreTrainedModel(config), model(register_module("model", timm::ResNet(options(config)))) {}
  pretrained::NamedTensors forward(torch::Tensor tensor, std::optional<torch::Tensor> labels = {}) {
    auto logits = model->forward(tensor);
    if (!labels) return {{"logits", logits}};
    return {{"loss", torch::nn::functional::cross_entropy(logits, *labels)}, {"logits", logits}};
  }
};
