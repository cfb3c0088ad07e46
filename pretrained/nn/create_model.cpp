#include "pretrained/nn/create_model.h"

#include <algorithm>
#include <map>

#include "pretrained/base/error.h"

namespace timm {
namespace {

struct Entry {
  std::string name;
  ResNetOptions options;
  std::vector<DefaultConfig> configs;  // the default first
};

const std::vector<Entry>& registry() {
  static const auto* const entries = new std::vector<Entry>{
#include "pretrained/nn/timm_registry.inc"
  };
  return *entries;
}

bool matches(const char* pattern, const char* text) {
  if (*pattern == '\0') return *text == '\0';
  if (*pattern == '*') return matches(pattern + 1, text) || (*text && matches(pattern, text + 1));
  return *text && (*pattern == '?' || *pattern == *text) && matches(pattern + 1, text + 1);
}

// Numbers compare as numbers: resnet18 before resnet101.
std::vector<std::pair<std::string, int64_t>> natural_key(const std::string& text) {
  std::vector<std::pair<std::string, int64_t>> key;
  for (size_t i = 0; i < text.size();) {
    std::string word;
    int64_t number = 0;
    while (i < text.size() && !std::isdigit(static_cast<unsigned char>(text[i])))
      word += char(std::tolower(text[i++]));
    while (i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])))
      number = number * 10 + (text[i++] - '0');
    key.emplace_back(word, number);
  }
  return key;
}

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j)
      diagonal = std::exchange(
          row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])}));
  }
  return row.back();
}

[[noreturn]] void throw_unknown(const std::string& name) {
  std::vector<std::pair<size_t, std::string>> near;
  for (auto& entry : registry())
    near.emplace_back(edit_distance(name.substr(0, 64), entry.name), entry.name);
  std::sort(near.begin(), near.end());
  std::string list;
  for (size_t i = 0; i < 3; ++i) list += (i ? ", " : "") + near[i].second;
  throw pretrained::NotFoundError(
      "Unknown model (" + pretrained::printable(name) + "); near it: " + list +
      ". timm::list_models() names all; docs/timm.md says what is left out");
}

const Entry& find(const std::string& name, const DefaultConfig** config) {
  std::string base = name.substr(0, name.find('.'));
  for (auto& entry : registry()) {
    if (entry.name != base) continue;
    *config = &entry.configs[0];
    if (base == name) return entry;
    for (auto& candidate : entry.configs) {
      *config = &candidate;
      if (candidate.name == name) return entry;
    }
  }
  throw_unknown(name);
}

}  // namespace

ResNetOptions model_options(const std::string& name) {
  const DefaultConfig* config;
  ResNetOptions options = find(name, &config).options;
  options.num_classes = config->num_classes;
  return options;
}

DefaultConfig default_config(const std::string& name) {
  const DefaultConfig* config;
  find(name, &config);
  return *config;
}

ResNet create_model(const std::string& name, const CreateModelOptions& given) {
  std::string repo, architecture = name;
  std::optional<detail::HubModel> hub;
  for (std::string prefix : {"hf-hub:", "hf_hub:"})
    if (name.starts_with(prefix)) repo = name.substr(prefix.size());
  if (!repo.empty()) {
    hub = detail::read_hub_config(repo);
    architecture = hub->architecture;
  }
  ResNetOptions options = model_options(architecture);
  if (hub) options.num_classes = hub->num_classes;
  if (hub && !hub->global_pool.empty()) options.global_pool = hub->global_pool;
  int64_t stored_classes = options.num_classes;
  if (given.num_classes) options.num_classes = *given.num_classes;
  if (given.in_chans) options.in_chans = *given.in_chans;
  if (given.output_stride) options.output_stride = *given.output_stride;
  if (given.global_pool) options.global_pool = *given.global_pool;
  options.drop_rate = given.drop_rate;
  options.drop_path_rate = given.drop_path_rate;
  ResNet model(options);
  if (!given.pretrained) return model;
  if (repo.empty()) repo = default_config(name).hf_hub_id;
  if (repo.empty())
    throw pretrained::NotFoundError("create_model('" + pretrained::printable(name) +
                                    "', pretrained): there are no weights for it; "
                                    "timm::list_models(\"*\", true) names those that have some");
  detail::load_pretrained(model, options, repo, stored_classes);
  return model;
}

std::vector<std::string> list_models(const std::string& pattern, bool pretrained) {
  std::vector<std::string> names;
  for (auto& entry : registry()) {
    if (!pretrained)
      names.push_back(entry.name);
    else
      for (auto& config : entry.configs)
        if (!config.hf_hub_id.empty()) names.push_back(config.name);
  }
  std::erase_if(names, [&](auto& name) { return !matches(pattern.c_str(), name.c_str()); });
  std::sort(names.begin(), names.end(),
            [](auto& a, auto& b) { return natural_key(a) < natural_key(b); });
  return names;
}

}  // namespace timm
