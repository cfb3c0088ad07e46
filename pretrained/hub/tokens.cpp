#include "pretrained/hub/tokens.h"

#include <cstdlib>

#include "pretrained/base/error.h"
#include "pretrained/base/text.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/stored_tokens.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr const char* kVariables[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};

std::string environment_token(const char* name) {
  const char* value = std::getenv(name);
  return clean_token(value ? value : "", name);
}

bool remove_file(const fs::path& path) {
  std::error_code error;
  bool removed = fs::remove(path, error);
  if (error) throw IoError(path.string() + ": " + error.message());
  return removed;
}

}  // namespace

std::string find_token() {
  for (auto* name : kVariables)
    if (auto token = environment_token(name); !token.empty()) return token;
  return file_token();
}

std::string token_source() {
  for (auto* name : kVariables)
    if (!environment_token(name).empty()) return name;
  return file_token().empty() ? "" : token_file().string();
}

std::vector<StoredToken> list_tokens() {
  auto tokens = read_stored_tokens();
  std::string active = find_token();
  for (auto& token : tokens) token.active = !active.empty() && token.token == active;
  return tokens;
}

void store_token(const StoredToken& token, bool activate) {
  StoredTokens stored;
  stored.put(token);
  stored.save();
  if (activate) write_file_token(clean_token(token.token, token.name));
}

void activate_token(const std::string& name) {
  StoredTokens stored;
  std::vector<std::string> names;
  for (auto& token : stored.list()) {
    if (token.name == name && !token.token.empty())
      return write_file_token(clean_token(token.token, name));
    names.push_back(token.name);
  }
  throw NotFoundError("no stored token '" + printable(name) + "'" + suggestion(name, names));
}

bool remove_token(const std::string& name) {
  if (name.empty()) {  // also where stored_tokens cannot be read
    bool removed = remove_file(token_file());
    removed = remove_file(token_file().parent_path() / "stored_tokens") || removed;
    remove_file(token_file().parent_path() / "token_hubs");
    return removed;
  }
  StoredTokens stored;
  for (auto& token : stored.list())
    if (token.name == name) {
      stored.sections.erase(name);
      stored.save();
      if (token.token == file_token()) remove_file(token_file());
      return true;
    }
  return false;
}

}  // namespace pretrained::hub
