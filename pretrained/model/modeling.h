#pragma once
// PreTrainedModel: a torch::nn::Module with a config, saved and loaded by folder, called by
// position or by name.
//
//   struct ResnetModel : pretrained::PreTrainedModel<ResnetModel, ResnetConfig> {
//     static constexpr std::array inputs{"tensor"};
//     timm::ResNet model;
//     explicit ResnetModel(const Config& config)
//         : PreTrainedModel(config), model(register_module("model", timm::ResNet(options(config))))
//         {}
//     torch::Tensor forward(torch::Tensor tensor) { return model->forward_features(tensor); }
//   };
//
// `forward` takes torch::Tensor (required) and std::optional<torch::Tensor> (optional) in the order
// of `inputs`, and returns NamedTensors, or one tensor, which is named "output". The first input is
// the main one. Deriving from a model: PreTrainedModel<My, MyConfig, ResnetModel>; plain derivation
// is refused by name, since it would silently run the parent's forward. A model may live on the
// stack or in a shared_ptr; it cannot be copied. Calls are as thread-safe as the modules inside:
// concurrent forwards in eval mode are; changing weights is not. Mirrors
// https://github.com/huggingface/transformers/blob/main/src/transformers/modeling_utils.py

#include <torch/nn/module.h>

#include <array>
#include <concepts>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "pretrained/model/config.h"
#include "pretrained/model/locate.h"
#include "pretrained/model/named_tensors.h"
#include "pretrained/model/options.h"

namespace pretrained {

class Model;

// What the library knows of a model class whose type it cannot name: from this process or from
// loaded code.
struct ModelClass {
  std::string name;  // "ns::ResnetModel"
  const ConfigClass* config;
  std::vector<std::string> inputs;
  std::shared_ptr<Model> (*make)(const ConfigBase& config);
};

class PRETRAINED_API Model : public torch::nn::Module {
 public:
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model() override;

  virtual const ModelClass& model_class() const = 0;
  // By name: model.call({{"tensor", x}, {"labels", y}}). Unknown, missing and doubled names are
  // ArgumentErrors that list what is accepted.
  virtual NamedTensors call(const NamedTensors& inputs) = 0;
  // By position, in the order of `inputs`; an undefined tensor is an absent one.
  NamedTensors call_in_order(const std::vector<torch::Tensor>& inputs);

  const ConfigBase& base_config() const { return *config_; }
  // The header the class's constructor stands in, as the compiler saw it.
  const std::string& source_file() const { return source_file_; }

  // Parameters and buffers in Python's order; the tensors are the model's own, not copies.
  NamedTensors state_dict() const;
  LoadReport load_state_dict(const NamedTensors& state_dict, bool strict = true);

  // Writes config.json, the weights, and the code where the class was registered for an Auto class.
  // Every file is written beside its target and renamed when all are complete: a failure leaves the
  // old model whole.
  void save_pretrained(const std::filesystem::path& folder,
                       const SavePretrained& options = {}) const;
  // The same into a repository on the hub: "org/name", or "name" in one's own namespace; it is made
  // where there is none. Weights, config, code and a model card are one commit, and what was saved
  // is compiled, loaded and compared first (PushToHub::prove), for which the model must not be used
  // by another thread meanwhile. Throws Error where the copy differs, CompileError, and the errors
  // of hub/errors.h: nothing is published then.
  PushResult push_to_hub(const std::string& repo, const PushToHub& options = {});

  // For a model whose memory is not its own alone (isolation): told the dtype of its weights before
  // they are loaded, and to be filled by copying.
  virtual void begin_loading(std::optional<torch::Dtype>) {}
  virtual bool keeps_memory() const { return false; }

  int64_t num_parameters(bool only_trainable = false) const;
  torch::Dtype dtype() const;    // of the first floating-point parameter
  torch::Device device() const;  // of the first parameter

 protected:
  // Checks the config before any child is built. `config` is one of a class made with
  // PretrainedConfig.
  template <class C>
  explicit Model(const C& config) {
    config.check();
    make_self();
  }
  void set_config(std::shared_ptr<ConfigBase> config, const char* file);
  void check_inputs(const NamedTensors& given, std::span<const bool> required) const;
  // Plain derivation from a shared class would run its parent's forward.
  void check_class(const std::type_info& expected) const;
  virtual void check_saved_class() const = 0;
  std::shared_ptr<ConfigBase> config_;

 private:
  void make_self();
  std::shared_ptr<torch::nn::Module> self_;
  std::string source_file_;
};

// The state of any module, as Python's Module.state_dict(), and back: copies into the module's own
// tensors. Throws WeightsError with PyTorch's text; not strict: only shapes must match.
PRETRAINED_API NamedTensors state_dict(const torch::nn::Module& module);
PRETRAINED_API LoadReport load_state_dict(torch::nn::Module& module, const NamedTensors& state_dict,
                                          bool strict = true);

namespace detail {
PRETRAINED_API void load_into(Model& model, const std::filesystem::path& folder,
                              const FromPretrained& options);
PRETRAINED_API std::shared_ptr<Model> make_for_loading(const ModelClass& model_class,
                                                       const ConfigBase& config,
                                                       const std::filesystem::path& folder,
                                                       const FromPretrained&);
PRETRAINED_API void register_model(const ModelClass& model_class, const std::string& auto_class);

inline NamedTensors to_outputs(NamedTensors outputs) { return outputs; }
inline NamedTensors to_outputs(torch::Tensor output) { return {{"output", std::move(output)}}; }

template <class T>
concept Input = std::same_as<T, torch::Tensor> || std::same_as<T, std::optional<torch::Tensor>>;

template <class T, class Owner, class R, class... A>
NamedTensors call_by_name(T& model, R (Owner::*forward)(A...), const NamedTensors& given) {
  static_assert((Input<std::remove_cvref_t<A>> && ...),
                "forward takes torch::Tensor and std::optional<torch::Tensor>");
  static_assert(std::size(T::inputs) == sizeof...(A),
                "`inputs` names each argument of forward once");
  return [&]<size_t... I>(std::index_sequence<I...>) {
    auto argument = [&]<class Type>(std::type_identity<Type>, const char* name) -> Type {
      auto* tensor = given.find(name);
      if constexpr (std::same_as<Type, torch::Tensor>)
        return tensor ? *tensor : torch::Tensor();
      else
        return tensor ? Type(*tensor) : std::nullopt;
    };
    return to_outputs(
        (model.*forward)(argument(std::type_identity<std::remove_cvref_t<A>>(), T::inputs[I])...));
  }(std::index_sequence_for<A...>());
}

template <class Owner, class R, class... A>
constexpr std::array<bool, sizeof...(A)> required_inputs(R (Owner::*)(A...)) {
  return {std::same_as<std::remove_cvref_t<A>, torch::Tensor>...};
}
}  // namespace detail

template <class T>
const ModelClass& model_class() {
  static const ModelClass* const the_class =
      new ModelClass{detail::name_of<T>(),
                     &config_class<typename T::Config>(),
                     {T::inputs.begin(), T::inputs.end()},
                     [](const ConfigBase& config) -> std::shared_ptr<Model> {
                       return std::make_shared<T>(static_cast<const typename T::Config&>(config));
                     }};
  return *the_class;
}

template <class T, class C, class Parent = Model>
class PreTrainedModel : public Parent {
 public:
  using Config = C;

  // `name` is a folder, or a repository on a hub: "org/name", "org/name@revision". Throws
  // NotFoundError, ConfigError, FormatError, WeightsError and the errors of hub/errors.h. The model
  // comes back in eval mode.
  static std::shared_ptr<T> from_pretrained(const std::string& name,
                                            const FromPretrained& options = {}) {
    Located at = locate(name, options);
    C config = C::from_pretrained(at.config_file, options.config_overrides);
    fetch_weights(at, options);
    return std::static_pointer_cast<T>(
        detail::make_for_loading(pretrained::model_class<T>(), config, at.folder, options));
  }

  // Marks the class to be saved with its code under this Auto class. Python's method of this name;
  // call it once per class, in any order. Unknown Auto classes are an ArgumentError.
  static void register_for_auto_class(const std::string& auto_class = "AutoModel") {
    detail::register_model(pretrained::model_class<T>(), auto_class);
  }

  C& config() { return static_cast<C&>(*this->config_); }
  const C& config() const { return static_cast<const C&>(*this->config_); }

  // model(x) is forward(x), with its own result type; model({{"tensor", x}}) is call().
  template <class... A>
    requires(sizeof...(A) > 0 && (std::convertible_to<A, std::optional<torch::Tensor>> && ...))
  auto operator()(A&&... inputs) {
    return static_cast<T&>(*this).forward(std::forward<A>(inputs)...);
  }
  NamedTensors operator()(const NamedTensors& inputs) { return call(inputs); }

  const ModelClass& model_class() const override { return pretrained::model_class<T>(); }
  NamedTensors call(const NamedTensors& inputs) override {
    this->check_class(typeid(T));
    static constexpr auto kRequired = detail::required_inputs(&T::forward);
    this->check_inputs(inputs, kRequired);
    return detail::call_by_name(static_cast<T&>(*this), &T::forward, inputs);
  }

 protected:
  void check_saved_class() const override { this->check_class(typeid(T)); }
  // The default of `file` is evaluated where the derived constructor is written, which is the file
  // to share.
  explicit PreTrainedModel(const C& config, const char* file = __builtin_FILE()) : Parent(config) {
    if constexpr (!std::same_as<Parent, Model>) config.check();
    this->set_config(std::make_shared<C>(config), file);
  }
};

}  // namespace pretrained
