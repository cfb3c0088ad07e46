#include "pretrained/model/registry.h"

#include <map>
#include <mutex>
#include <set>

#include "pretrained/base/error.h"

namespace pretrained {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, const ConfigClass*> configs;  // by model_type
  std::map<std::pair<std::string, std::string>, const ModelClass*>
      models;  // by Auto class, config class
  std::map<std::pair<std::string, std::string>, registry::Shared>
      shared;  // by Auto class, config class
  std::set<std::string> auto_classes = {"AutoConfig", "AutoModel",
                                        "AutoModelForImageClassification"};
};

Registry& the_registry() {
  static auto* const registry =
      new Registry;  // used by static objects of user code until the very end
  return *registry;
}

void check_auto_class(const Registry& registry, const std::string& auto_class) {
  // Transformers' own names are known without a declaration of ours.
  bool known = registry.auto_classes.contains(auto_class) ||
               (auto_class.starts_with("AutoModelFor") && auto_class.size() > 12);
  if (!known) throw ArgumentError(printable(auto_class) + " is not a valid auto class.");
}

}  // namespace

namespace registry {

void add_config(const std::string& model_type, const ConfigClass& config_class, bool exist_ok) {
  if (config_class.model_type != model_type)
    throw ArgumentError(
        "The config you are passing has a `model_type` attribute that is not consistent with the "
        "model type you passed "
        "(config has " +
        config_class.model_type + " and you passed " + printable(model_type) +
        ". Fix one of those!");
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  auto found = registry.configs.find(model_type);
  if (found != registry.configs.end() && found->second != &config_class && !exist_ok)
    throw ArgumentError("'" + model_type +
                        "' is already used by a Transformers config, pick another name. (It is " +
                        found->second->name + "; exist_ok = true replaces it.)");
  registry.configs[model_type] = &config_class;
}

void add_model(const std::string& auto_class, const ConfigClass& config_class,
               const ModelClass& model_class, bool exist_ok) {
  if (model_class.config->name != config_class.name)
    throw ArgumentError(
        "The model class you are passing has a `config_class` attribute that is not consistent "
        "with the config class you "
        "passed (model has " +
        model_class.config->name + " and you passed " + config_class.name +
        ". Fix one of those so they match!");
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  auto& entry = registry.models[{auto_class, config_class.name}];
  if (entry && entry != &model_class && !exist_ok)
    throw ArgumentError("'" + config_class.name +
                        "' is already used by a Transformers model. (It is " + entry->name +
                        " in " + auto_class + "; exist_ok = true replaces it.)");
  entry = &model_class;
}

bool remove_config(const std::string& model_type) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  return registry.configs.erase(model_type) > 0;
}

bool remove_model(const std::string& auto_class, const std::string& config_class_name) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  return registry.models.erase({auto_class, config_class_name}) > 0;
}

const ConfigClass* find_config(const std::string& model_type) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  auto found = registry.configs.find(model_type);
  return found == registry.configs.end() ? nullptr : found->second;
}

const ModelClass* find_model(const std::string& auto_class, const std::string& config_class_name) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  auto found = registry.models.find({auto_class, config_class_name});
  return found == registry.models.end() ? nullptr : found->second;
}

void declare_auto_class(const std::string& auto_class) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  registry.auto_classes.insert(auto_class);
}

std::vector<Shared> shared_classes(const ConfigClass& config_class) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  std::vector<Shared> found;
  for (auto& [key, shared] : registry.shared)
    if (key.second == config_class.name) found.push_back(shared);
  return found;
}

}  // namespace registry

namespace detail {

void register_config(const ConfigClass& config_class, const std::string& auto_class) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  if (auto_class != "AutoConfig")
    throw ArgumentError(printable(auto_class) +
                        " is not a valid auto class for a config; it is AutoConfig.");
  registry.shared[{auto_class, config_class.name}] = {auto_class, &config_class, nullptr};
}

void register_model(const ModelClass& model_class, const std::string& auto_class) {
  auto& registry = the_registry();
  std::lock_guard lock(registry.mutex);
  check_auto_class(registry, auto_class);
  if (auto_class == "AutoConfig")
    throw ArgumentError("AutoConfig is for configs; " + model_class.name + " is a model");
  registry.shared[{auto_class, model_class.config->name}] = {auto_class, model_class.config,
                                                             &model_class};
}

}  // namespace detail
}  // namespace pretrained
