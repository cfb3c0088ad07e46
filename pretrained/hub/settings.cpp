#include "pretrained/hub/settings.h"

#include <algorithm>
#include <cstdlib>

#include "pretrained/base/error.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

// An empty variable is one that is not set.
std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

fs::path user_folder(const fs::path& path) {
  std::string text = path.string();
  if (text != "~" && !text.starts_with("~/")) return path;
  std::string home = variable("HOME");
  if (home.empty()) throw ArgumentError(text + ": HOME is not set; name the folder in full");
  return fs::path(home) / (text.size() > 2 ? text.substr(2) : "");
}

}  // namespace

std::string default_endpoint() {
  std::string endpoint = variable("HF_ENDPOINT");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint.empty() ? "https://huggingface.co" : endpoint;
}

fs::path home_folder() {
  if (auto home = variable("HF_HOME"); !home.empty()) return user_folder(home);
  if (auto cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return user_folder(cache) / "huggingface";
  return user_folder("~/.cache/huggingface");
}

fs::path cache_folder() {
  for (auto* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (auto folder = variable(name); !folder.empty()) return user_folder(folder);
  return home_folder() / "hub";
}

fs::path token_file() {
  auto path = variable("HF_TOKEN_PATH");
  return path.empty() ? home_folder() / "token" : user_folder(path);
}

bool is_true(const char* name) {
  std::string value = variable(name);
  std::transform(value.begin(), value.end(), value.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

bool is_offline() { return is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"); }

}  // namespace pretrained::hub
