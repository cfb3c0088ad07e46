#pragma once
// Gives other numbers than its saved copy: what it adds is in no file.
#include <pretrained/model.h>

inline float added = 0;

struct StatefulConfig : pretrained::PretrainedConfig<StatefulConfig> {
  static constexpr auto model_type = "stateful";
  int64_t hidden_size = 4;
  PRETRAINED_FIELDS(hidden_size)
};

struct StatefulModel : pretrained::PreTrainedModel<StatefulModel, StatefulConfig> {
  static constexpr std::array inputs{"tensor"};
  torch::Tensor weight;
  explicit StatefulModel(const Config& config)
      : PreTrainedModel(config),
        weight(register_parameter("weight", at::ones({config.hidden_size}))) {}
  torch::Tensor forward(torch::Tensor tensor) { return tensor * weight + added; }
};
