#include "pretrained/model/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "pretrained/base/folder_update.h"
#include "pretrained/base/version.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

// Keys that Transformers consumes or removes; they say where a config was, not what it is.
constexpr const char* kDropped[] = {"_name_or_path",
                                    "_commit_hash",
                                    "_auto_class",
                                    "_is_quantized",
                                    "_attn_implementation_internal",
                                    "_attn_implementation_autoset",
                                    "_experts_implementation_internal",
                                    "_post_init_done",
                                    "base_model_tp_plan",
                                    "base_model_pp_plan",
                                    "base_model_fsdp_plan",
                                    "distributed_config",
                                    "pretrained_version"};

std::map<int64_t, std::string> default_labels(int64_t count) {
  std::map<int64_t, std::string> labels;
  for (int64_t i = 0; i < count; ++i) labels[i] = "LABEL_" + std::to_string(i);
  return labels;
}

std::map<std::string, int64_t> inverse(const std::map<int64_t, std::string>& labels) {
  std::map<std::string, int64_t> ids;
  for (auto& [id, label] : labels) ids[label] = id;
  return ids;
}

std::map<int64_t, std::string> read_labels(const Json& json, const FieldPath& at) {
  std::map<std::string, std::string> texts;
  read_field(json, texts, at);
  std::map<int64_t, std::string> labels;
  for (auto& [key, label] : texts) {
    int64_t id = 0;
    auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size())
      throw ConfigError(at.source + ": field '" + at.path + "': expected integers as keys, got '" +
                        printable(key) + "'");
    labels[id] = label;
  }
  return labels;
}

Json write_labels(const std::map<int64_t, std::string>& labels) {
  Json::Object object;
  for (auto& [id, label] : labels) object[std::to_string(id)] = label;
  return object;
}

// Calls visit(key, field) for the base fields but the labels.
template <class Self, class Visit>
void each_base_field(Self& self, Visit&& visit) {
  visit("architectures", self.architectures);
  visit("dtype", self.dtype);
  visit("problem_type", self.problem_type);
  visit("output_hidden_states", self.output_hidden_states);
  visit("output_attentions", self.output_attentions);
  visit("return_dict", self.return_dict);
  visit("is_encoder_decoder", self.is_encoder_decoder);
  visit("chunk_size_feed_forward", self.chunk_size_feed_forward);
}

}  // namespace

void throw_wrong_type(const FieldPath& at, const std::string& expected, const Json& found) {
  std::string where =
      at.path.empty() ? at.source : at.source + ": field '" + printable(at.path) + "'";
  throw ConfigError(where + ": expected " + expected + ", got " + found.kind());
}

namespace detail {

bool read_integer(const Json& json, int64_t smallest, int64_t largest, int64_t& value,
                  const FieldPath& at) {
  auto* found = json.get_if<int64_t>();
  if (json.get_if<BigInteger>() || (found && (*found < smallest || *found > largest)))
    throw ConfigError(at.source + ": field '" + printable(at.path) +
                      "': " + printable(json.dump(0), 60) + " is outside " +
                      std::to_string(smallest) + " … " + std::to_string(largest));
  if (found) value = *found;
  return found != nullptr;
}

bool read_number(const Json& json, double& value) {
  if (auto* number = json.get_if<double>())
    value = *number;
  else if (auto* integer = json.get_if<int64_t>())
    value = double(*integer);
  else if (auto* big = json.get_if<BigInteger>())
    value = std::strtod(big->digits.c_str(), nullptr);
  else
    return false;
  return true;
}

std::string class_name(const char* pretty_function) {
  // "… name_of() [T = ns::ResnetConfig]" (clang), "… [with T = ns::ResnetConfig; std::string = …]"
  // (g++)
  std::string text = pretty_function;
  auto begin = text.find("T = ") + 4;
  return text.substr(begin, text.find_first_of("];", begin) - begin);
}

fs::path folder_of(const fs::path& path) {
  return fs::is_directory(path) ? path : path.parent_path();
}

Json read_config_file(const fs::path& path, FieldPath& at) {
  fs::path file = fs::is_directory(path) ? path / "config.json" : path;
  finish_update(file.parent_path());
  at = {file.filename().string(), ""};
  Json json = Json::parse(read_file(file), file.string());
  if (!json.get_if<Json::Object>()) throw_wrong_type(at, "an object", json);
  return json;
}

std::string config_text(const Json& config) {
  Json::Object object = *config.get_if<Json::Object>();
  object["pretrained_version"] = kVersion;
  return Json(object).dump() + "\n";
}

void write_config_file(const fs::path& folder, const Json& config) {
  if (fs::exists(folder) && !fs::is_directory(folder))
    throw ArgumentError("Provided path (" + folder.string() +
                        ") should be a directory, not a file");
  FolderUpdate update(folder);
  update.add("config.json").write(config_text(config));
  update.commit();
}

void override_fields(Json& config, const Json::Object& overrides) {
  auto& object = *config.get_if<Json::Object>();
  for (auto& [key, value] : overrides) {
    object[key] = value;
    if (key == "num_labels") {
      object.erase("id2label");
      object.erase("label2id");
    }
  }
}

std::shared_ptr<ConfigBase> read_config(const ConfigClass& config_class, Json json,
                                        const Json::Object& overrides) {
  FieldPath at{"config.json", ""};
  if (!overrides.empty()) {
    Json fields = config_class.write(*config_class.read(json, at));
    for (auto& [key, value] : overrides) {
      bool base = key == "num_labels" || key == "id2label" || key == "label2id" ||
                  key == "problem_type" || key == "dtype";
      if (!base && !fields.find(key))
        throw ArgumentError("config_overrides: " + config_class.name + " has no field '" +
                            printable(key) + "'");
    }
    override_fields(json, overrides);
  }
  return config_class.read(json, at);
}

std::string diff_objects(const Json& a, const Json& b) {
  std::map<std::string, int> keys;
  for (auto* side : {&a, &b})
    for (auto& [key, value] : *side->get_if<Json::Object>()) keys[key];
  std::string out;
  auto text = [](const Json* value) {
    return value ? printable(value->dump(0)) : std::string("(not set)");
  };
  for (auto& [key, unused] : keys) {
    auto *left = a.find(key), *right = b.find(key);
    if (!left || !right || !(*left == *right))
      out += printable(key) + ": " + text(left) + " → " + text(right) + "\n";
  }
  return out;
}

}  // namespace detail

LabelFields::NumLabels& LabelFields::NumLabels::operator=(int64_t count) {
  if (count < 0 || count > 10'000'000)
    throw ConfigError("num_labels: expected 0 … 10000000, got " + std::to_string(count));
  if (int64_t(*this) == count) return *this;
  owner_.id2label = default_labels(count);
  owner_.label2id.reset();
  return *this;
}

std::string ConfigBase::label(int64_t i) const {
  auto found = id2label.find(i);
  return found == id2label.end() ? "LABEL_" + std::to_string(i) : found->second;
}

void ConfigBase::read_base(Json::Object& object, const FieldPath& at) {
  for (auto* key : kDropped) object.erase(key);
  for (auto* key : kDropped) loaded_.erase(key);
  if (auto old = object.extract("torch_dtype"); !old.empty() && !object.contains("dtype")) {
    loaded_["dtype"] = old.mapped();
    object["dtype"] = std::move(old.mapped());
  }
  loaded_.erase("torch_dtype");
  each_base_field(*this, [&](const char* key, auto& field) {
    auto found = object.find(key);
    if (found == object.end()) return;
    // A null is Python's None, our default; a dtype may be an object, one per sub-model: kept as it
    // is.
    bool kept_raw = std::string(key) == "dtype" && found->second.get_if<Json::Object>();
    if (kept_raw) return;
    if (!found->second.is_null()) read_field(found->second, field, at.member(key));
    object.erase(found);
  });
  if (auto labels = object.extract("id2label"); !labels.empty() && !labels.mapped().is_null())
    id2label = read_labels(labels.mapped(), at.member("id2label"));
  if (auto count = object.extract("num_labels"); !count.empty() && !count.mapped().is_null()) {
    int64_t wanted = 0;
    read_field(count.mapped(), wanted, at.member("num_labels"));
    num_labels = wanted;
  }
  loaded_.erase("num_labels");
  if (auto found = object.find("label2id"); found != object.end()) {
    auto* members = found->second.get_if<Json::Object>();
    if (!members && !found->second.is_null())
      throw_wrong_type(at.member("label2id"), "an object of integers", found->second);
    bool integers = members != nullptr;
    std::map<std::string, int64_t> ids;
    if (members)
      for (auto& [label, id] : *members) {
        integers = integers && id.get_if<int64_t>();
        if (integers) ids[label] = *id.get_if<int64_t>();
      }
    if (integers) {
      label2id = std::move(ids);
      object.erase(found);
    }
  }
}

Json ConfigBase::kept(const std::string& key, const Json& now, const Json& earlier_value) const {
  auto found = loaded_.find(key);
  return found != loaded_.end() && earlier_value == now ? found->second : now;
}

Json::Object ConfigBase::write_base() const {
  Json::Object object = extra;
  const ConfigBase defaults;
  Json::Object usual;
  each_base_field(defaults, [&](const char* key, auto& field) { usual[key] = write_field(field); });
  each_base_field(*this, [&](const char* key, auto& field) {
    Json now = write_field(field);
    if (!(now == usual[key])) object[key] = now;
  });
  if (id2label != defaults.id2label) object["id2label"] = write_labels(id2label);
  auto ids = label2id ? *label2id : inverse(id2label);
  if (ids != inverse(defaults.id2label) && !object.contains("label2id"))
    object["label2id"] = write_field(ids);
  return object;
}

void ConfigBase::check_name(const std::string& key, const std::vector<std::string>& fields) const {
  std::vector<std::string> names = fields;
  each_base_field(*this, [&](const char* name, auto&) { names.push_back(name); });
  for (auto* name : {"num_labels", "id2label", "label2id"}) names.push_back(name);
  if (std::find(names.begin(), names.end(), key) != names.end() || extra.contains(key)) return;
  std::string list;
  for (auto& name : names) list += (list.empty() ? "" : ", ") + name;
  throw ArgumentError("config_overrides: there is no field '" + printable(key) +
                      "'; the fields are " + list);
}

}  // namespace pretrained
