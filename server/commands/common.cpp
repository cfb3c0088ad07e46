#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdlib>
#include <iostream>

#include "pretrained/base/error.h"
#include "server/commands/commands.h"

namespace pretrained::server {
namespace {

// The number at the start of `text`, and the unit after it.
std::pair<uint64_t, std::string> number_and_unit(const std::string& option, const std::string& text,
                                                 const char* expected) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number > uint64_t{1} << 50)
    throw ArgumentError(option + " '" + printable(text) + "': expected " + expected);
  return {number, std::string(end, text.data() + text.size())};
}

}  // namespace

void add_common(CLI::App& command, Common& common) {
  auto* data =
      command.add_option("--data", common.data, "the hub's data folder (or PRETRAINED_HUB_DATA)");
  // Not CLI11's envname(): verbs that share their options would let it win over --data.
  const char* folder = std::getenv("PRETRAINED_HUB_DATA");
  if (folder && *folder)
    common.data = folder;
  else
    data->required();
  command.add_flag("--json", common.json, "print JSON");
}

HubOptions existing(const Common& common) {
  if (!std::filesystem::exists(common.data / "hub.db"))
    throw NotFoundError(common.data.string() + ": no hub lies here; `pretrained-hub serve --data " +
                        common.data.string() + "` makes one");
  HubOptions options;
  options.data = common.data;
  options.disk_reserve = 0;
  return options;
}

void print(const Common& common, const Json& json, const std::string& text) {
  std::cout << (common.json ? json.dump(0) : text) << std::endl;
}

int64_t parse_duration(const std::string& option, const std::string& text) {
  constexpr const char* kExpected = "a duration such as 90s, 15m, 12h or 30d";
  auto [number, unit] = number_and_unit(option, text, kExpected);
  int64_t factor = unit.empty() || unit == "s" ? 1
                   : unit == "m"               ? 60
                   : unit == "h"               ? 3600
                   : unit == "d"               ? 86400
                                               : 0;
  if (factor == 0 || number > 100'000'000)
    throw ArgumentError(option + " '" + printable(text) + "': expected " + kExpected);
  return int64_t(number) * factor;
}

uint64_t parse_size(const std::string& option, const std::string& text) {
  constexpr const char* kExpected = "a size such as 500MB, 10GB or 512MiB";
  auto [number, unit] = number_and_unit(option, text, kExpected);
  static const std::map<std::string, uint64_t> factors = {{"", 1},
                                                          {"B", 1},
                                                          {"KB", 1000},
                                                          {"MB", 1000'000},
                                                          {"GB", 1000'000'000},
                                                          {"TB", 1000'000'000'000},
                                                          {"KiB", 1 << 10},
                                                          {"MiB", 1 << 20},
                                                          {"GiB", 1 << 30},
                                                          {"TiB", uint64_t{1} << 40}};
  auto factor = factors.find(unit);
  if (factor == factors.end() || number > (uint64_t{1} << 60) / factor->second)
    throw ArgumentError(option + " '" + printable(text) + "': expected " + kExpected);
  return number * factor->second;
}

}  // namespace pretrained::server
