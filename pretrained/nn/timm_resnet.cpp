#include "pretrained/nn/timm_resnet.h"

#include <torch/torch.h>

#include "pretrained/base/error.h"

namespace timm {
namespace F = torch::nn::functional;
using pretrained::ArgumentError;
using torch::Tensor;
using torch::nn::BatchNorm2dImpl;
using torch::nn::Conv2dImpl;
using torch::nn::Conv2dOptions;

namespace {

std::shared_ptr<Conv2dImpl> conv(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1,
                                 int64_t padding = 0, int64_t dilation = 1, int64_t groups = 1) {
  return std::make_shared<Conv2dImpl>(Conv2dOptions(in, out, kernel)
                                          .stride(stride)
                                          .padding(padding)
                                          .dilation(dilation)
                                          .groups(groups)
                                          .bias(false));
}

std::shared_ptr<BatchNorm2dImpl> norm(int64_t channels) {
  return std::make_shared<BatchNorm2dImpl>(channels);
}

// Children named by their place, as torch's Sequential names them; a gap stands for a layer without
// tensors.
class Numbered : public torch::nn::Module {
 public:
  void add(size_t index, std::shared_ptr<torch::nn::Module> module) {
    register_module(std::to_string(index), module);
  }
};

// The projection of a shortcut: [average pooling,] 1×1 or wider convolution, norm.
class Downsample : public Numbered {
 public:
  Downsample(const ResNetOptions& o, int64_t in, int64_t out, int64_t stride, int64_t dilation,
             int64_t first_dilation)
      : pooled_(o.avg_down && (stride != 1 || dilation != 1)),
        same_(dilation > 1),
        stride_(dilation == 1 ? stride : 1) {
    int64_t kernel = o.avg_down || (stride == 1 && dilation == 1) ? 1 : o.down_kernel_size;
    int64_t conv_dilation = kernel > 1 ? first_dilation : 1;
    int64_t padding = ((stride - 1) + conv_dilation * (kernel - 1)) / 2;
    conv_ = o.avg_down ? conv(in, out, 1) : conv(in, out, kernel, stride, padding, conv_dilation);
    norm_ = norm(out);
    add(o.avg_down ? 1 : 0, conv_);
    add(o.avg_down ? 2 : 1, norm_);
  }
  Tensor forward(Tensor x) {
    if (pooled_) {
      if (same_)
        x = F::pad(
            x, F::PadFuncOptions({0, 1, 0, 1}));  // timm's AvgPool2dSame: stride 1 keeps the size
      x = F::avg_pool2d(
          x, F::AvgPool2dFuncOptions(2).stride(stride_).ceil_mode(true).count_include_pad(false));
    }
    return norm_->forward(conv_->forward(x));
  }

 private:
  bool pooled_, same_;
  int64_t stride_;
  std::shared_ptr<Conv2dImpl> conv_;
  std::shared_ptr<BatchNorm2dImpl> norm_;
};

// replace_stem_pool: a strided convolution instead of max pooling.
class ConvPool : public Numbered {
 public:
  explicit ConvPool(int64_t channels)
      : conv_(conv(channels, channels, 3, 2, 1)), norm_(norm(channels)) {
    add(0, conv_);
    add(1, norm_);
  }
  Tensor forward(Tensor x) { return norm_->forward(conv_->forward(x)).relu_(); }

 private:
  std::shared_ptr<Conv2dImpl> conv_;
  std::shared_ptr<BatchNorm2dImpl> norm_;
};

// Stochastic depth: whole samples of the residual are dropped, the others scaled up.
Tensor drop_path(Tensor x, double probability) {
  double keep = 1 - probability;
  auto mask = torch::empty({x.size(0), 1, 1, 1}, x.options()).bernoulli_(keep);
  if (keep > 0) mask.div_(keep);
  return x * mask;
}

void check(bool ok, const std::string& message) {
  if (!ok) throw ArgumentError("timm::ResNet: " + message);
}

void check_options(const ResNetOptions& o) {
  check(o.block == "basic" || o.block == "bottleneck",
        "block must be 'basic' or 'bottleneck', got '" + pretrained::printable(o.block) + "'");
  check(o.stem_type.empty() || o.stem_type == "deep" || o.stem_type == "deep-tiered" ||
            o.stem_type == "deep_tiered",
        "stem_type must be '', 'deep' or 'deep-tiered', got '" +
            pretrained::printable(o.stem_type) + "'");
  check(o.output_stride == 8 || o.output_stride == 16 || o.output_stride == 32,
        "output_stride must be 8, 16 or 32, got " + std::to_string(o.output_stride));
  check(o.layers.size() == o.channels.size() && o.layers.size() >= 1 && o.layers.size() <= 8,
        "layers and channels must name the same 1 to 8 stages, got " +
            std::to_string(o.layers.size()) + " and " + std::to_string(o.channels.size()));
  constexpr int64_t kMost = 1 << 20;
  for (auto count : o.layers)
    check(count >= 1 && count <= 10000,
          "layers must be 1 to 10000 blocks, got " + std::to_string(count));
  for (auto width : o.channels)
    check(width >= 1 && width <= kMost, "channels must be positive, got " + std::to_string(width));
  for (auto value :
       {o.in_chans, o.cardinality, o.base_width, o.block_reduce_first, o.down_kernel_size})
    check(
        value >= 1 && value <= kMost,
        "in_chans, cardinality, base_width, block_reduce_first and down_kernel_size must be 1 to " +
            std::to_string(kMost) + ", got " + std::to_string(value));
  check(o.stem_width >= 4 && o.stem_width <= kMost,
        "stem_width must be at least 4, got " + std::to_string(o.stem_width));
  check(o.num_classes >= 0,
        "num_classes must not be negative, got " + std::to_string(o.num_classes));
  check(o.block != "basic" || o.cardinality == 1, "BasicBlock only supports cardinality of 1");
  check(o.block != "basic" || o.base_width == 64,
        "BasicBlock does not support changing base width");
  for (double rate : {o.drop_rate, o.drop_path_rate})
    check(rate >= 0 && rate < 1,
          "drop_rate and drop_path_rate must be in [0, 1), got " + std::to_string(rate));
}

void check_pool(const std::string& pool, int64_t num_classes) {
  check(pool == "avg" || pool == "max" || pool == "avgmax" || pool == "catavgmax" || pool.empty(),
        "global_pool must be 'avg', 'max', 'avgmax', 'catavgmax' or '', got '" +
            pretrained::printable(pool) + "'");
  check(!pool.empty() || num_classes == 0,
        "Pooling can only be disabled if classifier is also removed (num_classes = 0)");
}

}  // namespace

Tensor ResidualBlock::finish(Tensor x, Tensor shortcut) const {
  if (drop_path_ > 0 && is_training()) x = drop_path(x, drop_path_);
  if (downsample_) shortcut = static_cast<Downsample&>(*downsample_).forward(shortcut);
  return x.add_(shortcut).relu_();
}

BasicBlockImpl::BasicBlockImpl(const BlockOptions& o) {
  int64_t first = o.planes / o.reduce_first;
  conv1_ = register_module(
      "conv1", conv(o.inplanes, first, 3, o.stride, o.first_dilation, o.first_dilation));
  bn1_ = register_module("bn1", norm(first));
  conv2_ = register_module("conv2", conv(first, o.planes, 3, 1, o.dilation, o.dilation));
  bn2_ = register_module("bn2", norm(o.planes));
  if (o.downsample) downsample_ = register_module("downsample", o.downsample);
  drop_path_ = o.drop_path;
}

void BasicBlockImpl::zero_init_last() { torch::nn::init::zeros_(bn2_->weight); }

Tensor BasicBlockImpl::forward(Tensor x) {
  auto y = bn1_->forward(conv1_->forward(x)).relu_();
  return finish(bn2_->forward(conv2_->forward(y)), x);
}

BottleneckImpl::BottleneckImpl(const BlockOptions& o) {
  auto width = int64_t(std::floor(double(o.planes) * (double(o.base_width) / 64))) * o.cardinality;
  int64_t first = width / o.reduce_first, out = o.planes * expansion;
  check(first >= 1, "base_width " + std::to_string(o.base_width) + " leaves no channel");
  conv1_ = register_module("conv1", conv(o.inplanes, first, 1));
  bn1_ = register_module("bn1", norm(first));
  conv2_ = register_module(
      "conv2", conv(first, width, 3, o.stride, o.first_dilation, o.first_dilation, o.cardinality));
  bn2_ = register_module("bn2", norm(width));
  conv3_ = register_module("conv3", conv(width, out, 1));
  bn3_ = register_module("bn3", norm(out));
  if (o.downsample) downsample_ = register_module("downsample", o.downsample);
  drop_path_ = o.drop_path;
}

void BottleneckImpl::zero_init_last() { torch::nn::init::zeros_(bn3_->weight); }

Tensor BottleneckImpl::forward(Tensor x) {
  auto y = bn1_->forward(conv1_->forward(x)).relu_();
  y = bn2_->forward(conv2_->forward(y)).relu_();
  return finish(bn3_->forward(conv3_->forward(y)), x);
}

ResNetImpl::ResNetImpl(ResNetOptions options)
    : torch::nn::Module("ResNet"), options_(std::move(options)) {
  check_options(options_);
  make_stem();
  bool deep = !options_.stem_type.empty();
  make_stages(deep ? options_.stem_width * 2 : 64);
  make_classifier();
  init_weights(options_.zero_init_last);
}

void ResNetImpl::make_stem() {
  auto& o = options_;
  int64_t planes = o.stem_type.empty() ? 64 : o.stem_width * 2;
  if (o.stem_type.empty()) {
    conv1_ = {register_module("conv1", conv(o.in_chans, planes, 7, 2, 3))};
  } else {
    int64_t first = o.stem_type == "deep" ? o.stem_width : 3 * (o.stem_width / 4);
    auto layers = register_module("conv1", std::make_shared<Numbered>());
    conv1_ = {conv(o.in_chans, first, 3, 2, 1), norm(first), conv(first, o.stem_width, 3, 1, 1),
              norm(o.stem_width), conv(o.stem_width, planes, 3, 1, 1)};
    constexpr size_t kPlaces[] = {0, 1, 3, 4, 6};  // 2 and 5 are activations
    for (size_t i = 0; i < conv1_.size(); ++i) layers->add(kPlaces[i], conv1_[i]);
  }
  bn1_ = register_module("bn1", norm(planes));
  if (o.replace_stem_pool)
    maxpool_ = register_module("maxpool", std::make_shared<ConvPool>(planes));
}

void ResNetImpl::make_stages(int64_t inplanes) {
  auto& o = options_;
  int64_t blocks = 0, block_index = 0, net_stride = 4, dilation = 1, previous_dilation = 1;
  for (auto count : o.layers) blocks += count;
  for (size_t stage = 0; stage < o.layers.size(); ++stage) {
    int64_t stride = stage == 0 ? 1 : 2;
    if (net_stride >= o.output_stride) {
      dilation *= stride;
      stride = 1;
    } else {
      net_stride *= stride;
    }
    int64_t out = o.channels[stage] *
                  (o.block == "basic" ? BasicBlockImpl::expansion : BottleneckImpl::expansion);
    auto layer = register_module("layer" + std::to_string(stage + 1), std::make_shared<Numbered>());
    auto& members = stages_.emplace_back();
    for (int64_t i = 0; i < o.layers[stage]; ++i, ++block_index) {
      BlockOptions block{.inplanes = inplanes,
                         .planes = o.channels[stage],
                         .stride = i == 0 ? stride : 1,
                         .cardinality = o.cardinality,
                         .base_width = o.base_width,
                         .reduce_first = o.block_reduce_first,
                         .dilation = dilation,
                         .first_dilation = previous_dilation};
      block.drop_path =
          blocks > 1 ? o.drop_path_rate * double(block_index) / double(blocks - 1) : 0;
      if (i == 0 && (stride != 1 || inplanes != out))
        block.downsample =
            std::make_shared<Downsample>(o, inplanes, out, stride, dilation, previous_dilation);
      if (o.block == "basic")
        members.push_back(std::make_shared<BasicBlockImpl>(block));
      else
        members.push_back(std::make_shared<BottleneckImpl>(block));
      layer->add(size_t(i), members.back());
      previous_dilation = dilation;
      inplanes = out;
    }
  }
  num_features_ = inplanes;
}

void ResNetImpl::make_classifier() {
  check_pool(options_.global_pool, options_.num_classes);
  int64_t features = num_features_ * (options_.global_pool == "catavgmax" ? 2 : 1);
  fc_ = options_.num_classes > 0
            ? std::make_shared<torch::nn::LinearImpl>(features, options_.num_classes)
            : nullptr;
  if (fc_) register_module("fc", fc_);
}

void ResNetImpl::init_weights(bool zero_init_last) {
  auto init = [&](torch::nn::Module& module, auto& self) -> void {
    if (auto* layer = module.as<Conv2dImpl>())
      torch::nn::init::kaiming_normal_(layer->weight, 0, torch::kFanOut, torch::kReLU);
    for (auto& child : module.children()) self(*child, self);
  };
  init(*this, init);
  if (!zero_init_last) return;
  for (auto& stage : stages_)
    for (auto& block : stage) block->zero_init_last();
}

Tensor ResNetImpl::stem(Tensor x) {
  for (auto& layer : conv1_) {
    if (auto* convolution = layer->as<Conv2dImpl>())
      x = convolution->forward(x);
    else
      x = layer->as<BatchNorm2dImpl>()->forward(x).relu_();
  }
  return bn1_->forward(x).relu_();
}

Tensor ResNetImpl::forward_features(Tensor x) {
  x = stem(x);
  if (maxpool_)
    x = static_cast<ConvPool&>(*maxpool_).forward(x);
  else
    x = torch::max_pool2d(x, 3, 2, 1);
  for (auto& stage : stages_)
    for (auto& block : stage) x = block->forward(x);
  return x;
}

std::vector<Tensor> ResNetImpl::forward_intermediates(Tensor x, std::vector<int64_t> indices) {
  std::vector<Tensor> all = {stem(x)};
  // The first block works in place on its own results only, so the stem's map stays as it is.
  x = maxpool_ ? static_cast<ConvPool&>(*maxpool_).forward(all[0])
               : torch::max_pool2d(all[0], 3, 2, 1);
  for (auto& stage : stages_) {
    for (auto& block : stage) x = block->forward(x);
    all.push_back(x);
  }
  std::vector<Tensor> chosen;
  for (auto index : indices) {
    int64_t place = index < 0 ? index + int64_t(all.size()) : index;
    check(place >= 0 && place < int64_t(all.size()), "feature index " + std::to_string(index) +
                                                         " is not in 0 … " +
                                                         std::to_string(all.size() - 1));
    chosen.push_back(all[size_t(place)]);
  }
  return chosen;
}

Tensor ResNetImpl::forward_head(Tensor x, bool pre_logits) {
  auto average = [&] { return x.mean({2, 3}); };
  auto maximum = [&] { return x.amax({2, 3}); };
  if (options_.global_pool == "avg")
    x = average();
  else if (options_.global_pool == "max")
    x = maximum();
  else if (options_.global_pool == "avgmax")
    x = 0.5 * (average() + maximum());
  else if (options_.global_pool == "catavgmax")
    x = torch::cat({average(), maximum()}, 1);
  if (options_.drop_rate > 0) x = torch::dropout(x, options_.drop_rate, is_training());
  return pre_logits || !fc_ ? x : fc_->forward(x);
}

void ResNetImpl::reset_classifier(int64_t num_classes, const std::string& global_pool) {
  check(num_classes >= 0, "num_classes must not be negative, got " + std::to_string(num_classes));
  check_pool(global_pool.empty() ? options_.global_pool : global_pool, num_classes);
  auto like = stages_[0][0]->parameters()[0].options();
  options_.num_classes = num_classes;
  if (!global_pool.empty()) options_.global_pool = global_pool;
  if (fc_) unregister_module("fc");
  make_classifier();
  if (!fc_) return;
  fc_->to(like.device(), c10::typeMetaToScalarType(like.dtype()));
  fc_->train(is_training());
}

}  // namespace timm
