#include "pretrained/model/auto.h"

#include <algorithm>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/isolation/isolation.h"
#include "pretrained/model/custom_code.h"
#include "pretrained/model/locate.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

struct Found {
  Located model, code;
  Json config;
  std::string model_type;
  AutoMap auto_map;
};

Found look(const std::string& name, const FromPretrained& options) {
  Found found;
  found.model = locate(name, options);
  FieldPath at;
  found.config = detail::read_config_file(found.model.config_file, at);
  if (auto* type = found.config.find("model_type"))
    read_field(*type, found.model_type, at.member("model_type"));
  found.code =
      options.code.empty() ? found.model : locate_code(options.code, options, found.model.client);
  Json map_holder =
      options.code.empty() ? found.config : detail::read_config_file(found.code.config_file, at);
  found.auto_map = read_auto_map(map_holder, found.code.name() + "/config.json");
  return found;
}

// No class: say why, and the way out.
[[noreturn]] void throw_no_class(const Found& found, const std::string& auto_class,
                                 const std::string& name) {
  auto* python = found.config.find("auto_map");
  if (!found.auto_map.empty()) {
    std::string list;
    for (auto& [entry, reference] : found.auto_map) list += (list.empty() ? "" : ", ") + entry;
    throw NotFoundError(name + ": its C++ code has no class for " + auto_class +
                        "; auto_map_cpp names: " + list);
  }
  if (found.model_type.empty())
    throw NotFoundError("Unrecognized model in " + name +
                        ". Should have a `model_type` key in its config.json, or `auto_map_cpp`.");
  throw NotFoundError(name + (python ? " holds only Python code" : " holds no C++ code") + " for " +
                      auto_class + ", and no class is registered for its model type '" +
                      printable(found.model_type) + "': register one (AutoConfig::register_, " +
                      auto_class +
                      "::register_), or name a folder or repository of C++ code (--code DIR, "
                      "--code org/repo@commit)");
}

const ConfigClass& choose_config(const Found& found, const std::string& name,
                                 const FromPretrained& options) {
  if (auto* registered = registry::find_config(found.model_type)) return *registered;
  if (found.auto_map.empty()) throw_no_class(found, "AutoConfig", name);
  auto& table = load_custom_code(found.code, found.auto_map, options);
  if (auto config = table.configs.find("AutoConfig"); config != table.configs.end())
    return *config->second;
  if (!table.models.empty()) return *table.models.begin()->second->config;
  throw_no_class(found, "AutoConfig", name);
}

const ModelClass& choose_model(const Found& found, const std::string& auto_class,
                               const std::string& name, const FromPretrained& options) {
  if (auto* config = registry::find_config(found.model_type))
    if (auto* model = registry::find_model(auto_class, config->name)) return *model;
  if (!found.auto_map.contains(auto_class)) throw_no_class(found, auto_class, name);
  return *load_custom_code(found.code, found.auto_map, options).models.at(auto_class);
}

std::shared_ptr<ConfigBase> read_config(const ConfigClass& config_class, const Found& found,
                                        const FromPretrained& options) {
  auto config = detail::read_config(config_class, found.config, options.config_overrides);
  config->loaded_from = found.model.folder;
  return config;
}

// The only class that the code has, else the one that was saved.
std::string choose_auto_class(const Found& found, const std::string& name) {
  AutoMap classes = found.auto_map;
  classes.erase("AutoConfig");
  if (classes.empty()) return AutoModelForImageClassification::name;
  if (classes.size() == 1) return classes.begin()->first;
  std::vector<std::string> saved;
  if (auto* names = found.config.find("architectures"); names && !names->is_null())
    read_field(*names, saved, {"config.json", "architectures"});
  std::string list;
  for (auto& [auto_class, reference] : classes) {
    auto& full = reference.class_name;
    if (std::find(saved.begin(), saved.end(), full.substr(full.rfind(':') + 1)) != saved.end())
      return auto_class;
    list += (list.empty() ? "" : ", ") + auto_class;
  }
  throw ArgumentError(name +
                      ": its code has several classes and `architectures` in config.json names "
                      "none of them: name the Auto class (--auto-class), one of " +
                      list);
}

// Only code that the model brings along: what is registered here is trusted already.
AnyModel isolated(const Found& found, const std::string& auto_class, const std::string& name,
                  const FromPretrained& options) {
  if (!found.auto_map.contains(auto_class)) throw_no_class(found, auto_class, name);
  auto model =
      isolation::start(auto_class, found.model, found.code, found.auto_map, found.config, options);
  fetch_weights(found.model, options);
  detail::load_into(*model, found.model.folder, options);
  model->eval();
  return AnyModel(model);
}

}  // namespace

Json AnyConfig::find(const std::string& field) const {
  if (field == "num_labels") return Json(int64_t(value_->num_labels));
  Json fields = to_json();
  if (auto* found = fields.find(field)) return *found;
  throw ArgumentError(class_->name + " has no field '" + printable(field) + "'");
}

void AnyConfig::check_type(const std::string& model_type) const {
  if (class_->model_type != model_type)
    throw ArgumentError(class_->name + " has the model type '" + class_->model_type + "', not '" +
                        model_type + "'");
}

CodeReview review_code(const std::string& name, const FromPretrained& options) {
  Found found = look(name, options);
  if (found.auto_map.empty()) throw NotFoundError(found.code.name() + " holds no C++ code");
  return review_custom_code(found.code, found.auto_map, options);
}

AnyConfig AutoConfig::from_pretrained(const std::string& name, const FromPretrained& options) {
  Found found = look(name, options);
  const ConfigClass& config_class = choose_config(found, name, options);
  return {config_class, read_config(config_class, found, options)};
}

namespace detail {

AnyModel auto_from_pretrained(const std::string& wanted, const std::string& name,
                              const FromPretrained& options) {
  Found found = look(name, options);
  std::string auto_class = wanted.empty() ? choose_auto_class(found, name) : wanted;
  if (options.isolation == Isolation::process) return isolated(found, auto_class, name, options);
  const ModelClass& model_class = choose_model(found, auto_class, name, options);
  auto config = read_config(*model_class.config, found, options);
  fetch_weights(found.model, options);
  return AnyModel(make_for_loading(model_class, *config, found.model.folder, options));
}

AnyModel auto_from_config(const std::string& auto_class, const AnyConfig& config) {
  const ConfigClass& config_class = config.config_class();
  const ModelClass* model = registry::find_model(auto_class, config_class.name);
  if (auto* table = find_custom_code(config_class); !model && table)
    if (auto found = table->models.find(auto_class); found != table->models.end())
      model = found->second;
  if (!model)
    throw NotFoundError("Unrecognized configuration class " + config_class.name +
                        " for this kind of AutoModel: " + auto_class +
                        ". Register a model class for it with " + auto_class + "::register_.");
  return AnyModel(model->make(*config));
}

}  // namespace detail
}  // namespace pretrained
