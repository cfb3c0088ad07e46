#pragma once
// All that a model's state can be: buffers, frozen, unused and tied parameters, a module under two
// names, an integer buffer.
#include <pretrained/model.h>
#include <torch/nn/modules.h>

#include <array>

struct MixedConfig : pretrained::PretrainedConfig<MixedConfig> {
  static constexpr auto model_type = "mixed";
  int64_t width = 4;
  PRETRAINED_FIELDS(width)
};

struct Mixed : pretrained::PreTrainedModel<Mixed, MixedConfig> {
  static constexpr std::array inputs{"x", "scale"};
  torch::nn::Linear in, tied, shared;
  torch::nn::BatchNorm1d norm;
  torch::Tensor frozen, unused;
  explicit Mixed(const Config& c)
      : PreTrainedModel(c),
        in(register_module("in", torch::nn::Linear(c.width, c.width))),
        tied(register_module("tied", torch::nn::Linear(c.width, c.width))),
        shared(register_module("shared", torch::nn::Linear(c.width, c.width))),
        norm(register_module("norm", torch::nn::BatchNorm1d(c.width))),
        frozen(register_parameter("frozen", torch::full({c.width}, 0.5), false)),
        unused(register_parameter("unused", torch::ones({3}))) {
    register_module("again", shared.ptr());
    tied->weight.set_data(in->weight.data());
  }
  pretrained::NamedTensors forward(torch::Tensor x, std::optional<torch::Tensor> scale = {}) {
    if (x.size(-1) != config().width)
      throw pretrained::ArgumentError("x: expected a width of " + std::to_string(config().width));
    auto hidden = torch::relu(norm(in(x))) + frozen;
    hidden = shared(tied(shared(hidden)));
    if (scale) hidden = hidden * *scale;
    return {{"hidden", hidden}, {"best", hidden.argmax(-1)}, {"sum", hidden.sum()}};
  }
};
