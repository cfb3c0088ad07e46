#include "pretrained/safetensors/index.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/base/json.h"

namespace pretrained::safetensors {
namespace {

bool is_plain(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.size() > 255) return false;
  return std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) || c == '.' || c == '_' || c == '-');
  });
}

std::optional<int64_t> read_count(const Json* metadata, const std::string& key,
                                  const std::string& source) {
  auto* value = metadata ? metadata->find(key) : nullptr;
  if (!value) return std::nullopt;
  if (auto* count = value->get_if<int64_t>()) return *count;
  if (auto* number = value->get_if<double>();
      number && *number >= 0 && *number < 9e15 && *number == double(int64_t(*number)))
    return int64_t(*number);
  throw FormatError(source + ": field 'metadata." + key + "': expected an integer, got " +
                    value->kind());
}

}  // namespace

std::vector<std::string> Index::files() const {
  std::set<std::string> names;
  for (auto& [tensor, file] : weight_map) names.insert(file);
  return {names.begin(), names.end()};
}

Index parse_index(const std::string& text, const std::string& source) {
  Json json = Json::parse(text, source);
  auto* map = json.find("weight_map");
  auto* members = map ? map->get_if<Json::Object>() : nullptr;
  if (!members)
    throw FormatError(source + ": field 'weight_map': expected an object of strings, got " +
                      (map ? map->kind() : "nothing"));
  Index index;
  for (auto& [tensor, file] : *members) {
    auto* name = file.get_if<std::string>();
    if (!name)
      throw FormatError(source + ": weight_map of '" + printable(tensor) +
                        "': expected a file name, got " + file.kind());
    if (!is_plain(*name))
      throw FormatError(source + ": weight_map of '" + printable(tensor) + "': '" +
                        printable(*name) + "' is not a plain file name");
    index.weight_map[tensor] = *name;
  }
  if (auto* metadata = json.find("metadata");
      metadata && !metadata->get_if<Json::Object>() && !metadata->is_null())
    throw FormatError(source + ": field 'metadata': expected an object, got " +
                      std::string(metadata->kind()));
  index.total_size = read_count(json.find("metadata"), "total_size", source);
  index.total_parameters = read_count(json.find("metadata"), "total_parameters", source);
  return index;
}

std::string write_index(const Index& index) {
  Json::Object metadata, map;
  if (index.total_size) metadata["total_size"] = *index.total_size;
  if (index.total_parameters) metadata["total_parameters"] = *index.total_parameters;
  for (auto& [tensor, file] : index.weight_map) map[tensor] = file;
  return Json(Json::Object{{"metadata", metadata}, {"weight_map", map}}).dump() + "\n";
}

void check_index(const Index& index,
                 const std::map<std::string, std::vector<std::string>>& tensors_by_file,
                 uint64_t total_size, const std::string& source) {
  std::set<std::string> seen;
  for (auto& [file, tensors] : tensors_by_file)
    for (auto& tensor : tensors) {
      auto listed = index.weight_map.find(tensor);
      if (listed == index.weight_map.end())
        throw FormatError(source + ": '" + printable(tensor) + "' lies in " + file +
                          " but not in weight_map");
      if (listed->second != file)
        throw FormatError(source + ": '" + printable(tensor) + "' lies in " + file +
                          ", weight_map says " + printable(listed->second));
      seen.insert(tensor);
    }
  for (auto& [tensor, file] : index.weight_map)
    if (!seen.contains(tensor))
      throw FormatError(source + ": '" + printable(tensor) + "' is not in " + file +
                        ", where weight_map says it is");
  if (index.total_size && uint64_t(*index.total_size) != total_size)
    throw FormatError(source + ": metadata.total_size is " + std::to_string(*index.total_size) +
                      ", the shards hold " + std::to_string(total_size));
}

uint64_t parse_size(const std::string& text) {
  struct Unit {
    std::string_view name;
    uint64_t factor;
  };
  constexpr Unit kUnits[] = {{"TIB", 1ull << 40}, {"GIB", 1ull << 30},   {"MIB", 1ull << 20},
                             {"KIB", 1ull << 10}, {"TB", 1000000000000}, {"GB", 1000000000},
                             {"MB", 1000000},     {"KB", 1000},          {"", 1}};
  constexpr auto kSpace = " \t\r\n";
  std::string upper = text.substr(std::min(text.find_first_not_of(kSpace), text.size()));
  upper.erase(upper.find_last_not_of(kSpace) + 1);
  for (char& c : upper) c = char(std::toupper(static_cast<unsigned char>(c)));
  auto* unit = std::find_if(std::begin(kUnits), std::end(kUnits),
                            [&](auto& known) { return upper.ends_with(known.name); });
  std::string number = upper.substr(0, upper.size() - unit->name.size());
  number.erase(number.find_last_not_of(kSpace) + 1);

  uint64_t count = 0, size = 0;
  double real = 0;
  const char *begin = number.data(), *end = begin + number.size();
  if (auto read = std::from_chars(begin, end, count); read.ec == std::errc() && read.ptr == end) {
    if (__builtin_mul_overflow(count, unit->factor, &size)) size = 0;
  } else if (unit->name.size() == 2) {
    read = std::from_chars(begin, end, real);
    if (read.ec == std::errc() && read.ptr == end && real > 0 && real * double(unit->factor) < 9e18)
      size = uint64_t(real * double(unit->factor));
  }
  if (size == 0)
    throw ArgumentError("max_shard_size '" + printable(text) +
                        "': expected a number with a unit, as 5GB or 500MiB");
  return size;
}

std::vector<std::vector<size_t>> plan_shards(const std::vector<uint64_t>& sizes,
                                             uint64_t max_shard_size) {
  std::vector<std::vector<size_t>> shards;
  std::vector<size_t> current;
  uint64_t filled = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] > max_shard_size) {
      shards.push_back({i});
      continue;
    }
    if (filled > max_shard_size - sizes[i]) {
      shards.push_back(std::move(current));
      current.clear();
      filled = 0;
    }
    current.push_back(i);
    filled += sizes[i];
  }
  if (!current.empty() || shards.empty()) shards.push_back(std::move(current));
  return shards;
}

void check_variant(const std::string& variant) {
  if (!variant.empty() && !is_plain(variant))
    throw ArgumentError("variant '" + printable(variant) + "' cannot be part of a file name");
}

std::string weights_name(const std::string& variant, size_t shard, size_t shards) {
  std::string name = variant.empty() ? "model" : "model." + variant;
  char place[48] = "";
  if (shards > 1) std::snprintf(place, sizeof place, "-%05zu-of-%05zu", shard + 1, shards);
  return name + place + ".safetensors";
}

std::string index_name(const std::string& variant) {
  return variant.empty() ? "model.safetensors.index.json"
                         : "model.safetensors.index." + variant + ".json";
}

}  // namespace pretrained::safetensors
