#include <algorithm>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/model/custom_code.h"
#include "pretrained/model/no_init.h"
#include "pretrained/model/registry.h"
#include "pretrained/model/weights.h"

// From model to folder: config, weights, and the code of every class registered for its config.

namespace pretrained {
namespace fs = std::filesystem;
namespace {

struct Code {
  code::Sources sources;
  Json::Object auto_map;
};

std::string bare(const std::string& class_name) {
  auto at = class_name.rfind("::");
  return at == std::string::npos ? class_name : class_name.substr(at + 2);
}

// Where the class's constructor stands; asked from an instance, since only a constructor knows.
std::string source_of(const Model& model, const ModelClass& wanted) {
  if (&wanted == &model.model_class()) return model.source_file();
  NoInitGuard no_init;
  return wanted.make(model.base_config())->source_file();
}

Code collect_code(const Model& model, const Notice& notice) {
  const ModelClass& model_class = model.model_class();
  Code result;
  if (auto* table = find_custom_code(*model_class.config)) {
    result.sources = table->sources;
    for (auto& [auto_class, reference] : table->references)
      result.auto_map[auto_class] = reference.text();
    return result;
  }
  auto shared = registry::shared_classes(*model_class.config);
  if (shared.empty()) return result;
  std::map<std::string, std::pair<fs::path, std::string>> headers;  // by Auto class: header, class
  for (auto& entry : shared) {
    std::string file = entry.model ? source_of(model, *entry.model) : entry.config->source_file;
    headers[entry.auto_class] = {file, entry.model ? entry.model->name : entry.config->name};
  }
  std::vector<fs::path> files;
  for (auto& [auto_class, header] : headers) files.push_back(header.first);
  code::SourceTree tree = code::collect_sources(files, toolchain(notice));
  for (auto& [auto_class, header] : headers) {
    std::string text = tree.modules.at(header.first) + "." + header.second;
    code::parse_reference(
        text,
        header.first.string());  // a local class or one in an unnamed namespace cannot be named
    result.auto_map[auto_class] = text;
  }
  result.sources = std::move(tree.sources);
  return result;
}

// The Python modules that auto_map names and what they import from beside them.
std::set<std::string> python_files(const Json& auto_map, const fs::path& folder) {
  std::set<std::string> found;
  std::vector<std::string> wanted;
  auto want = [&](const Json& value) {
    if (auto* text = value.get_if<std::string>();
        text && text->find("--") == text->npos && text->find('/') == text->npos)
      wanted.push_back(text->substr(0, text->find('.')) + ".py");
  };
  if (auto* entries = auto_map.get_if<Json::Object>())
    for (auto& [auto_class, value] : *entries) {
      want(value);
      if (auto* pair = value.get_if<Json::Array>()) std::for_each(pair->begin(), pair->end(), want);
    }
  while (!wanted.empty()) {
    std::string file = wanted.back();
    wanted.pop_back();
    if (!fs::is_regular_file(folder / file) || !found.insert(file).second) continue;
    std::string text = read_inside(folder, file);
    for (size_t at = 0; (at = text.find("from .", at)) != text.npos;) {
      at += 6;
      size_t end = text.find_first_of(" .\n", at);
      if (end != text.npos && end > at) wanted.push_back(text.substr(at, end - at) + ".py");
    }
  }
  return found;
}

// A Python author's auto_map stays: the one the config came with, else the one the folder already
// has.
void keep_python(Json::Object& config, const fs::path& folder) {
  if (config.contains("auto_map")) return;
  try {
    Json old = Json::parse(read_inside(folder, "config.json"), "config.json");
    if (auto* auto_map = old.find("auto_map")) config["auto_map"] = *auto_map;
  } catch (const NotFoundError&) {
  } catch (const FormatError&) {
    // A broken config.json, or a link to elsewhere, is about to be replaced.
  }
}

}  // namespace

void Model::save_pretrained(const fs::path& folder, const SavePretrained& options) const {
  check_saved_class();
  if (fs::exists(folder) && !fs::is_directory(folder))
    throw ArgumentError("Provided path (" + folder.string() +
                        ") should be a directory, not a file");
  Code code = collect_code(*this, options.notice);
  FolderUpdate update(folder);

  auto config = model_class().config->copy(*config_);
  config->architectures = {bare(model_class().name)};
  config->dtype = dtype_name(dtype());
  Json json = model_class().config->write(*config);
  auto& object = *json.get_if<Json::Object>();
  if (!code.auto_map.empty())
    object["auto_map_cpp"] = code.auto_map;
  else if (options.notice)
    options.notice(folder.string() + " will hold no code: call " + model_class().name +
                   "::register_for_auto_class(\"Auto…\") before save_pretrained to share it");
  keep_python(object, folder);

  add_weights(update, state_dict(), options);
  for (auto& source : code.sources) update.add(source.path).write(source.bytes);
  if (auto* auto_map = json.find("auto_map"); auto_map && !config->loaded_from.empty())
    for (auto& name : python_files(*auto_map, config->loaded_from))
      if (!fs::exists(folder / name))
        update.add(name).write(read_inside(config->loaded_from, name));
  update.add("config.json").write(detail::config_text(json));
  update.commit();
}

}  // namespace pretrained
