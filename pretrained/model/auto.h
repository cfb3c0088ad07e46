#pragma once
// Auto classes: load a model or config by name when its class is not known at compile time.
//
//   auto model = pretrained::AutoModelForImageClassification::from_pretrained(
//       "org/custom-resnet50d", {.trust_remote_code = true, .revision = commit});
//   c10::InferenceMode guard;
//   torch::Tensor logits = model(x)["logits"];
//
// A name is a folder, or a repository on a hub: "org/name", "org/name@revision" (locate.h).
// Which class: registered by the user for this Auto class → the model's C++ code (`auto_map_cpp`
// in config.json; without trust an UntrustedCode error, never a fall-through) → an error. Nothing
// is built in, no other class is ever taken silently, and weights are never random. Mirrors
// https://github.com/huggingface/transformers/blob/main/src/transformers/models/auto/auto_factory.py

#include <memory>
#include <string>
#include <vector>

#include "pretrained/model/modeling.h"
#include "pretrained/model/registry.h"

namespace pretrained {

// A config whose class may come from loaded code.
class PRETRAINED_API AnyConfig {
 public:
  AnyConfig(const ConfigClass& the_class, std::shared_ptr<ConfigBase> value)
      : class_(&the_class), value_(std::move(value)) {}
  template <class T>
    requires Config<T>
  AnyConfig(const T& config)
      : class_(&pretrained::config_class<T>()), value_(std::make_shared<T>(config)) {}

  const ConfigClass& config_class() const { return *class_; }
  // The base fields: num_labels, id2label, extra, …
  ConfigBase* operator->() { return value_.get(); }
  const ConfigBase& operator*() const { return *value_; }

  // A field by name: config.get<std::vector<int64_t>>("layers"). ArgumentError where there is none,
  // ConfigError where it has another type.
  template <class T>
  T get(const std::string& field) const {
    T value{};
    read_field(find(field), value, {class_->name, field});
    return value;
  }
  // As a class known here, by its fields; ArgumentError where the model_type is another one.
  template <class T>
  T as() const {
    check_type(T::model_type);
    return T::from_json(to_json());
  }
  Json to_json() const { return class_->write(*value_); }
  void save_pretrained(const std::filesystem::path& folder) const {
    detail::write_config_file(folder, to_json());
  }

 private:
  Json find(const std::string& field) const;
  void check_type(const std::string& model_type) const;
  const ConfigClass* class_;
  std::shared_ptr<ConfigBase> value_;
};

// A shared pointer to a model, called as the model is.
class PRETRAINED_API AnyModel {
 public:
  explicit AnyModel(std::shared_ptr<Model> model) : model_(std::move(model)) {}
  template <class... A>
    requires(sizeof...(A) > 0 && (std::convertible_to<A, torch::Tensor> && ...))
  NamedTensors operator()(A&&... inputs) const {
    return model_->call_in_order({torch::Tensor(std::forward<A>(inputs))...});
  }
  NamedTensors operator()(const NamedTensors& inputs) const { return model_->call(inputs); }
  AnyConfig config() const {
    return {*model_->model_class().config,
            model_->model_class().config->copy(model_->base_config())};
  }
  Model* operator->() const { return model_.get(); }
  Model& operator*() const { return *model_; }
  const std::shared_ptr<Model>& ptr() const { return model_; }

 private:
  std::shared_ptr<Model> model_;
};

// The C++ code that the classes below would compile and run for `name`, without doing so; trusting
// it is code::TrustFile's. NotFoundError where there is none.
PRETRAINED_API CodeReview review_code(const std::string& name, const FromPretrained& options = {});

struct PRETRAINED_API AutoConfig {
  // `name` may also be a config.json.
  static AnyConfig from_pretrained(const std::string& name, const FromPretrained& options = {});
  // Transformers' checks: the model_type must be the config's, and not taken unless exist_ok.
  template <Config C>
  static void register_(const std::string& model_type, bool exist_ok = false) {
    registry::add_config(model_type, config_class<C>(), exist_ok);
  }
  static bool unregister(const std::string& model_type) {
    return registry::remove_config(model_type);
  }
};

namespace detail {
// `auto_class` empty: the only class that the model's code has, else the one that was saved.
PRETRAINED_API AnyModel auto_from_pretrained(const std::string& auto_class, const std::string& name,
                                             const FromPretrained&);
PRETRAINED_API AnyModel auto_from_config(const std::string& auto_class, const AnyConfig& config);
}  // namespace detail

// One line makes a further Auto class:
//   struct AutoModelForDepthEstimation : pretrained::AutoClass<AutoModelForDepthEstimation> {
//     static constexpr auto name = "AutoModelForDepthEstimation"; };
template <class T>
struct AutoClass {
  AutoClass() = delete;  // designed to be used through from_pretrained and from_config

  static AnyModel from_pretrained(const std::string& name, const FromPretrained& options = {}) {
    return detail::auto_from_pretrained(T::name, name, options);
  }
  // With random weights, in training mode, as Python's from_config.
  static AnyModel from_config(const AnyConfig& config) {
    return detail::auto_from_config(T::name, config);
  }
  template <Config C, class M>
  static void register_(bool exist_ok = false) {
    registry::declare_auto_class(T::name);
    registry::add_model(T::name, config_class<C>(), model_class<M>(), exist_ok);
  }
  template <Config C>
  static bool unregister() {
    return registry::remove_model(T::name, config_class<C>().name);
  }
};

struct AutoModel : AutoClass<AutoModel> {
  static constexpr auto name = "AutoModel";
};
struct AutoModelForImageClassification : AutoClass<AutoModelForImageClassification> {
  static constexpr auto name = "AutoModelForImageClassification";
};

}  // namespace pretrained
