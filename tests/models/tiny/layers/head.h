#pragma once
#include <torch/nn/modules/linear.h>

torch::Tensor apply_head(torch::nn::Linear& linear,
                         const torch::Tensor& x);  // its body lies in head.cpp beside it
