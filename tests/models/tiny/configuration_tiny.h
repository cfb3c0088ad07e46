#pragma once
#include <pretrained/model.h>

struct TinyConfig : pretrained::PretrainedConfig<TinyConfig> {
  static constexpr auto model_type = "tiny";
  int64_t hidden_size = 4;
  std::vector<int64_t> layers = {1, 2};
  PRETRAINED_FIELDS(hidden_size, layers)
  void validate() const {
    if (hidden_size < 1)
      throw pretrained::ConfigError("`hidden_size` must be positive, got " +
                                    std::to_string(hidden_size));
  }
};
