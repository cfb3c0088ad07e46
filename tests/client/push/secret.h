#pragma once
#include <pretrained/model.h>

// A token that was forgotten here, of nobody: hf_k7Qz2LmXp9Rv4TsWn8Yb3ZcAeFgHjU5o6d
struct SecretConfig : pretrained::PretrainedConfig<SecretConfig> {
  static constexpr auto model_type = "secret";
  int64_t hidden_size = 4;
  PRETRAINED_FIELDS(hidden_size)
};

struct SecretModel : pretrained::PreTrainedModel<SecretModel, SecretConfig> {
  static constexpr std::array inputs{"tensor"};
  torch::Tensor weight;
  explicit SecretModel(const Config& config)
      : PreTrainedModel(config),
        weight(register_parameter("weight", at::ones({config.hidden_size}))) {}
  torch::Tensor forward(torch::Tensor tensor) { return tensor * weight; }
};
