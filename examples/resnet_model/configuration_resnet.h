#pragma once
#include <pretrained/model.h>

struct ResnetConfig : pretrained::PretrainedConfig<ResnetConfig> {
  static constexpr auto model_type = "resnet";

  std::string block_type = "bottleneck";
  std::vector<int64_t> layers = {3, 4, 6, 3};
  int64_t num_classes = 1000;
  int64_t input_channels = 3;
  int64_t cardinality = 1;
  int64_t base_width = 64;
  int64_t stem_width = 64;
  std::string stem_type = "";
  bool avg_down = false;

  PRETRAINED_FIELDS(block_type, layers, num_classes, input_channels, cardinality, base_width,
                    stem_width, stem_type, avg_down)

  void validate() const {
    if (block_type != "basic" && block_type != "bottleneck")
      throw pretrained::ConfigError("`block_type` must be 'basic' or bottleneck', got " +
                                    block_type + ".");
    if (stem_type != "" && stem_type != "deep" && stem_type != "deep-tiered")
      throw pretrained::ConfigError("`stem_type` must be '', 'deep' or 'deep-tiered', got " +
                                    stem_type + ".");
  }
};
