#pragma once
// PretrainedConfig: a plain struct that reads and writes config.json as Transformers does.
//
//   struct ResnetConfig : pretrained::PretrainedConfig<ResnetConfig> {
//     static constexpr auto model_type = "resnet";
//     std::vector<int64_t> layers = {3, 4, 6, 3};
//     bool avg_down = false;
//     PRETRAINED_FIELDS(layers, avg_down)
//     void validate() const { if (layers.empty()) throw pretrained::ConfigError("`layers` is
//     empty"); }
//   };
//   ResnetConfig config{.avg_down = true};   // Python's keyword arguments
//   config.num_labels = 3;                   // base fields are set after construction
//
// Deriving from a config: PretrainedConfig<MyConfig, ResnetConfig>; its fields come first in
// messages and are all there. Writing is byte for byte what Transformers 5.23 writes for the same
// content, but for the version key
// (`pretrained_version`). Unknown keys are kept in `extra` and written back. A value that was read
// and not changed is written as it was spelled (0 stays 0 in a float field). Mirrors
// https://github.com/huggingface/transformers/blob/main/src/transformers/configuration_utils.py
// Configs are plain data: copy them freely; share between threads as you would a std::map.

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/model/fields.h"
#include "pretrained/model/locate.h"

namespace pretrained {

// id2label, label2id and num_labels, which is their number: assigning another one makes LABEL_0,
// LABEL_1, … anew.
class PRETRAINED_API LabelFields {
 public:
  class PRETRAINED_API NumLabels {
   public:
    explicit NumLabels(LabelFields& owner) : owner_(owner) {}
    NumLabels& operator=(int64_t count);
    NumLabels& operator=(const NumLabels& other) { return *this = int64_t(other); }
    operator int64_t() const { return int64_t(owner_.id2label.size()); }

   private:
    LabelFields& owner_;
  };

  LabelFields() : num_labels(*this) { num_labels = 2; }
  LabelFields(const LabelFields& other)
      : num_labels(*this), id2label(other.id2label), label2id(other.label2id) {}
  LabelFields& operator=(const LabelFields& other) {
    id2label = other.id2label;
    label2id = other.label2id;
    return *this;
  }

  NumLabels num_labels;
  std::map<int64_t, std::string> id2label;
  // Unset: the inverse of id2label.
  std::optional<std::map<std::string, int64_t>> label2id;
};

// The fields every config has. Not written while they hold these defaults.
class PRETRAINED_API ConfigBase : public LabelFields {
 public:
  std::vector<std::string> architectures;  // class names, set by the model's save_pretrained
  std::string dtype;                       // "float32", "bfloat16", …; empty: not said
  std::string problem_type;  // regression, single_label_classification, multi_label_classification
  bool output_hidden_states = false;
  bool output_attentions = false;
  bool return_dict = true;
  bool is_encoder_decoder = false;
  int64_t chunk_size_feed_forward = 0;
  Json::Object extra;  // every key no field claims
  std::filesystem::path
      loaded_from;  // the folder it was read from, whose Python code is kept; empty: none

  // The label of class i: id2label's, or "LABEL_i".
  std::string label(int64_t i) const;

 protected:
  // Takes the base fields out of `object`; what is left after the class's own fields becomes
  // `extra`.
  void read_base(Json::Object& object, const FieldPath& at);
  Json::Object write_base() const;
  void check_name(const std::string& key, const std::vector<std::string>& fields) const;
  // The spelling read earlier where it still means the same, else `now`.
  Json kept(const std::string& key, const Json& now, const Json& earlier_value) const;

  Json::Object loaded_;  // what was read, key by key
};

// What the library knows of a config class whose type it cannot name: from this process or from
// loaded code.
struct ConfigClass {
  std::string name;         // "ns::ResnetConfig"
  std::string model_type;   // "resnet"
  std::string source_file;  // the header the class is written in, as the compiler saw it
  std::shared_ptr<ConfigBase> (*read)(const Json& json, const FieldPath& at);
  std::shared_ptr<ConfigBase> (*copy)(const ConfigBase& config);
  Json (*write)(const ConfigBase& config);
};

namespace detail {
PRETRAINED_API std::string class_name(const char* pretty_function);
template <class T>
std::string name_of() {
  return class_name(__PRETTY_FUNCTION__);
}
PRETRAINED_API std::filesystem::path folder_of(const std::filesystem::path& path);
PRETRAINED_API Json read_config_file(const std::filesystem::path& path, FieldPath& at);
PRETRAINED_API void write_config_file(const std::filesystem::path& folder, const Json& config);
PRETRAINED_API std::string config_text(const Json& config);
PRETRAINED_API PushResult push_config(const Json& config, const std::string& repo,
                                      const PushToHub& options);
PRETRAINED_API void override_fields(Json& config, const Json::Object& overrides);
// With fields replaced; a name that is no field is an ArgumentError.
PRETRAINED_API std::shared_ptr<ConfigBase> read_config(const ConfigClass& config_class, Json json,
                                                       const Json::Object& overrides);
PRETRAINED_API std::string diff_objects(const Json& a, const Json& b);
PRETRAINED_API void register_config(const ConfigClass& config_class, const std::string& auto_class);
}  // namespace detail

template <class T>
const ConfigClass& config_class() {
  static const ConfigClass* const the_class = new ConfigClass{
      detail::name_of<T>(),
      T::model_type,
      T::source_file(),
      [](const Json& json, const FieldPath& at) -> std::shared_ptr<ConfigBase> {
        return std::make_shared<T>(T::from_json(json, at));
      },
      [](const ConfigBase& config) -> std::shared_ptr<ConfigBase> {
        return std::make_shared<T>(static_cast<const T&>(config));
      },
      [](const ConfigBase& config) { return static_cast<const T&>(config).to_json(); }};
  return *the_class;
}

template <class T, class Parent = ConfigBase>
class PretrainedConfig : public Parent {
 public:
  // `path` is a folder that holds config.json, a JSON file, or a repository on a hub. `overrides`
  // replace fields, as Python's keyword arguments do; a name that is no field is an ArgumentError.
  // Throws NotFoundError, FormatError, ConfigError, and the errors of hub/errors.h.
  static T from_pretrained(const std::filesystem::path& path, const Json::Object& overrides = {}) {
    return from_pretrained(path.string(), FromPretrained{.config_overrides = overrides});
  }
  static T from_pretrained(const std::string& name, const FromPretrained& options) {
    auto& overrides = options.config_overrides;
    auto path = locate(name, options).config_file;
    FieldPath at;
    Json json = detail::read_config_file(path, at);
    T known = from_json(json, at);
    for (auto& [key, value] : overrides) known.check_known(key);
    detail::override_fields(json, overrides);
    T config = from_json(json, at);
    config.loaded_from = detail::folder_of(path);
    return config;
  }

  static T from_json(const Json& json, const FieldPath& at = {"config.json", ""}) {
    static_assert(detail::arity<T>() == T::field_count + 1,
                  "PRETRAINED_FIELDS must list every field of the config once");
    auto* members = json.get_if<Json::Object>();
    if (!members) throw_wrong_type(at, "an object", json);
    T config;
    Json::Object rest = *members;
    config.loaded_ = *members;
    config.read_base(rest, at);
    config.visit_all([&](const char* name, auto& field) {
      auto found = rest.find(name);
      if (found == rest.end()) return;
      read_field(found->second, field, at.member(name));
      rest.erase(found);
    });
    if (T::model_type[0] != '\0') rest.erase("model_type");
    config.extra = std::move(rest);
    config.check(at);
    return config;
  }

  // All keys that config.json holds for this config, but no version.
  Json to_json() const {
    Json::Object object = this->write_base();
    const_cast<PretrainedConfig*>(this)->visit_all([&](const char* name, auto& field) {
      Json now = write_field(field), earlier;
      if (auto found = this->loaded_.find(name); found != this->loaded_.end()) {
        std::remove_reference_t<decltype(field)> value{};
        read_field(found->second, value, {});
        earlier = write_field(value);
      }
      object[name] = this->kept(name, now, earlier);
    });
    if (T::model_type[0] != '\0') object["model_type"] = T::model_type;
    return object;
  }
  std::string to_json_string() const { return detail::config_text(to_json()); }

  // Writes folder/config.json whole or not at all; makes the folder. Runs validate() first.
  void save_pretrained(const std::filesystem::path& folder) const {
    check({"config.json", ""});
    detail::write_config_file(folder, to_json());
  }

  // The author's own rules: define it in the config to throw ConfigError. Called on reading, saving
  // and before a model is built. One that is not defined is the parent's.
  void validate() const {
    if constexpr (!std::is_same_v<Parent, ConfigBase>) Parent::validate();
  }
  void check(const FieldPath& at = {"config.json", ""}) const {
    try {
      static_cast<const T&>(*this).validate();
    } catch (const ConfigError& error) {
      if (at.path.empty()) throw;
      throw ConfigError(at.source + ": field '" + at.path + "': " + error.what());
    }
  }

  // config.json alone as one commit; see Model::push_to_hub.
  PushResult push_to_hub(const std::string& repo, const PushToHub& options = {}) const {
    check({"config.json", ""});
    return detail::push_config(to_json(), repo, options);
  }

  // Marks the class to be shared: models saved with it carry its code. Mirrors Python's method of
  // this name.
  static void register_for_auto_class(const std::string& auto_class = "AutoConfig") {
    detail::register_config(config_class<T>(), auto_class);
  }

  // Throws ArgumentError where `key` is no field of this config.
  void check_known(const std::string& key) {
    std::vector<std::string> names;
    visit_all([&](const char* name, auto&) { names.push_back(name); });
    this->check_name(key, names);
  }

  // Calls visit(name, field) for the parent's fields, then one's own.
  template <class Visit>
  void visit_all(Visit&& visit) {
    if constexpr (!std::is_same_v<Parent, ConfigBase>) Parent::visit_all(visit);
    T::each_field(static_cast<T&>(*this), visit);
  }

  friend bool operator==(const T& a, const T& b) { return a.to_json() == b.to_json(); }
  // One line per field that differs: "layers: [3, 4, 6, 3] → [2, 2, 2, 2]".
  friend std::string diff(const T& a, const T& b) {
    return detail::diff_objects(a.to_json(), b.to_json());
  }
};

}  // namespace pretrained
