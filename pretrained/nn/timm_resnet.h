#pragma once
// timm's ResNet, exact: the same arithmetic, and parameters and buffers of the same names, order
// and dtypes, so that checkpoints of timm 1.0.31 load as they are. ResNet, ResNeXt, Wide-ResNet and
// the c, d, e, s, t stems. Mirrors
// https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/resnet.py
//
//   timm::ResNet model(timm::ResNetOptions{.layers = {3, 4, 6, 3}, .stem_width = 32, .stem_type =
//   "deep", .avg_down = true}); torch::Tensor logits = model->forward(images);   // [batch,
//   in_chans, height, width] → [batch, num_classes]
//
// Threads: as LibTorch's modules; forward in eval mode may run on many threads at once.

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace torch::nn {
class BatchNorm2dImpl;
class Conv2dImpl;
class LinearImpl;
}  // namespace torch::nn

namespace timm {

// Names and defaults are those of timm's ResNet.__init__.
struct ResNetOptions {
  std::string block = "bottleneck";  // "basic" or "bottleneck"
  std::vector<int64_t> layers = {3, 4, 6, 3};
  int64_t num_classes = 1000;  // 0: forward returns pooled features
  int64_t in_chans = 3;
  int64_t output_stride = 32;  // 8, 16 or 32: later stages dilate instead of striding
  std::string global_pool =
      "avg";  // avg, max, avgmax, catavgmax; "" (none) only with num_classes = 0
  int64_t cardinality = 1;
  int64_t base_width = 64;
  int64_t stem_width = 64;
  std::string stem_type = "";  // "", "deep", "deep-tiered" (timm spells it "deep_tiered")
  bool replace_stem_pool = false;
  int64_t block_reduce_first = 1;
  int64_t down_kernel_size = 1;
  bool avg_down = false;
  std::vector<int64_t> channels = {64, 128, 256, 512};
  double drop_rate = 0;  // dropout before the classifier, in training
  double drop_path_rate =
      0;  // stochastic depth of the last block, in training; linear from 0 at the first
  bool zero_init_last = true;
};

// What BasicBlock and Bottleneck are made from.
struct BlockOptions {
  int64_t inplanes = 0, planes = 0, stride = 1;
  int64_t cardinality = 1, base_width = 64, reduce_first = 1, dilation = 1, first_dilation = 1;
  double drop_path = 0;
  std::shared_ptr<torch::nn::Module> downsample;  // made by the stage; nullptr: none
};

// One residual block of either kind.
class PRETRAINED_API ResidualBlock : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(torch::Tensor x) = 0;
  virtual void zero_init_last() = 0;

 protected:
  torch::Tensor finish(torch::Tensor x, torch::Tensor shortcut) const;
  double drop_path_ = 0;
  std::shared_ptr<torch::nn::Module> downsample_;
};

class PRETRAINED_API BasicBlockImpl : public ResidualBlock {
 public:
  static constexpr int64_t expansion = 1;
  explicit BasicBlockImpl(const BlockOptions& options);
  torch::Tensor forward(torch::Tensor x) override;
  void zero_init_last() override;

 private:
  std::shared_ptr<torch::nn::Conv2dImpl> conv1_, conv2_;
  std::shared_ptr<torch::nn::BatchNorm2dImpl> bn1_, bn2_;
};
TORCH_MODULE(BasicBlock);

class PRETRAINED_API BottleneckImpl : public ResidualBlock {
 public:
  static constexpr int64_t expansion = 4;
  explicit BottleneckImpl(const BlockOptions& options);
  torch::Tensor forward(torch::Tensor x) override;
  void zero_init_last() override;

 private:
  std::shared_ptr<torch::nn::Conv2dImpl> conv1_, conv2_, conv3_;
  std::shared_ptr<torch::nn::BatchNorm2dImpl> bn1_, bn2_, bn3_;
};
TORCH_MODULE(Bottleneck);

class PRETRAINED_API ResNetImpl : public torch::nn::Module {
 public:
  // Throws pretrained::ArgumentError for options that timm refuses.
  explicit ResNetImpl(ResNetOptions options = {});

  torch::Tensor forward(torch::Tensor x) { return forward_head(forward_features(x)); }
  // [batch, in_chans, h, w] → [batch, num_features, h / output_stride, w / output_stride], rounded
  // up.
  torch::Tensor forward_features(torch::Tensor x);
  // Pooling, dropout and classifier; with pre_logits, without the classifier.
  torch::Tensor forward_head(torch::Tensor x, bool pre_logits = false);
  // timm's forward_intermediates(intermediates_only=True): 0 is the stem after its activation, 1 …
  // 4 the stages.
  std::vector<torch::Tensor> forward_intermediates(torch::Tensor x,
                                                   std::vector<int64_t> indices = {0, 1, 2, 3, 4});
  // A fresh classifier for other classes; 0 removes it. `global_pool` empty: as it was.
  void reset_classifier(int64_t num_classes, const std::string& global_pool = "");
  // timm's init_weights: Kaiming-normal convolutions; the last norm of each block zero.
  void init_weights(bool zero_init_last = true);

  const ResNetOptions& options() const { return options_; }
  int64_t num_features() const { return num_features_; }

 private:
  torch::Tensor stem(torch::Tensor x);
  void make_stem();
  void make_stages(int64_t inplanes);
  void make_classifier();

  ResNetOptions options_;
  int64_t num_features_ = 0;
  std::vector<std::shared_ptr<torch::nn::Module>>
      conv1_;  // one convolution, or the layers of a deep stem
  std::shared_ptr<torch::nn::BatchNorm2dImpl> bn1_;
  std::shared_ptr<torch::nn::Module> maxpool_;  // only where a convolution replaces it
  std::vector<std::vector<std::shared_ptr<ResidualBlock>>> stages_;
  std::shared_ptr<torch::nn::LinearImpl> fc_;
};
TORCH_MODULE(ResNet);

}  // namespace timm
