#pragma once
// Written against API level 1. Never change it: that it still compiles and loads is what the level promises.
#include <pretrained/model.h>

struct FrozenConfig : pretrained::PretrainedConfig<FrozenConfig> {
  static constexpr auto model_type = "frozen";
  int64_t width = 1;
  double scale = 0.5;
  bool bias = true;
  std::string name = "x";
  std::vector<int64_t> sizes = {1};
  std::optional<std::string> act;
  PRETRAINED_FIELDS(width, scale, bias, name, sizes, act)
  void validate() const {
    if (width < 1) throw pretrained::ConfigError("`width` must be positive");
  }
};
