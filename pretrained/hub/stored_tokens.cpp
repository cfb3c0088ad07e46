#include "pretrained/hub/stored_tokens.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/base/json.h"
#include "pretrained/base/sha256.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/settings.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLongest = 1 << 20;

std::string trimmed(std::string_view text) {
  const char* blanks = " \t\r\n\v\f";
  size_t begin = text.find_first_not_of(blanks);
  if (begin == text.npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(blanks) + 1 - begin));
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? c + 32 : c;
  return text;
}

std::string read_if_there(const fs::path& path) {
  try {
    return read_file(path, kLongest);
  } catch (const NotFoundError&) {
    return "";
  }
}

// Python's clients keep the other file beside the token.
fs::path stored_tokens_file() { return token_file().parent_path() / "stored_tokens"; }
fs::path token_hubs_file() { return token_file().parent_path() / "token_hubs"; }

void make_folder(const fs::path& folder) {
  std::error_code error;
  if (!folder.empty()) fs::create_directories(folder, error);
  if (error) throw IoError(folder.string() + ": " + error.message());
}

// The folder is made private only where it is the clients' own: HF_TOKEN_PATH may lie anywhere.
void write_secret(const fs::path& path, const std::string& text) {
  make_folder(path.parent_path());
  write_file_atomically(path, text, 0600);
  if (path.parent_path() == home_folder()) chmod(path.parent_path().c_str(), 0700);
}

fs::path lock_path(const fs::path& path) {
  make_folder(path.parent_path());
  return path.string() + ".lock";
}

// As configparser goes through a file, line by line.
class Parser {
 public:
  explicit Parser(const std::string& source) : source_(source) {}

  void line(std::string_view raw) {
    ++number_;
    std::string text = trimmed(raw);
    if (text.starts_with('#') || text.starts_with(';')) return;
    if (text.empty()) {
      if (value_) *value_ += '\n';
      return;
    }
    size_t indent = raw.find_first_not_of(" \t");
    if (value_ && indent > indent_) {
      *value_ += "\n" + text;
      return;
    }
    indent_ = indent;
    if (text.front() == '[' && text.rfind(']') != text.npos && text.rfind(']') > 1)
      section(text.substr(1, text.rfind(']') - 1));
    else
      field(text);
  }

  TokenSections finish() {
    for (auto& [name, fields] : sections_)
      for (auto& [key, value] : fields) value = trimmed(value);
    return std::move(sections_);
  }

 private:
  void section(const std::string& name) {
    if (name == "DEFAULT" || sections_.contains(name))
      wrong("section '" + printable(name) + "' twice");
    section_ = &sections_[name];
    value_ = nullptr;
  }
  void field(const std::string& text) {
    size_t sign = text.find_first_of("=:");
    if (!section_) wrong("a field before the first [section]");
    if (sign == text.npos || sign == 0) wrong("expected 'name = value'");
    std::string key = lower(trimmed(text.substr(0, sign)));
    for (auto& [other, value] : *section_)
      if (other == key) wrong("field '" + printable(key) + "' twice");
    section_->emplace_back(key, trimmed(text.substr(sign + 1)));
    value_ = &section_->back().second;
  }
  [[noreturn]] void wrong(const std::string& what) {
    throw FormatError(source_ + ": line " + std::to_string(number_) + ": " + what +
                      "; `pretrained logout` removes the file");
  }

  const std::string& source_;
  TokenSections sections_;
  TokenFields* section_ = nullptr;
  std::string* value_ = nullptr;
  size_t indent_ = 0;
  int number_ = 0;
};

std::string field_of(const TokenFields& fields, const std::string& name) {
  for (auto& [key, value] : fields)
    if (key == name) return value;
  return "";
}

int64_t number_of(const std::string& text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

std::vector<StoredToken> list_of(const TokenSections& sections, const TokenHubs& hubs) {
  std::vector<StoredToken> tokens;
  for (auto& [name, fields] : sections) {
    StoredToken token{name, field_of(fields, "hf_token"), field_of(fields, "refresh_token"),
                      number_of(field_of(fields, "expires_at"))};
    if (auto hub = hubs.find(sha256_hex(token.token)); hub != hubs.end())
      token.endpoint = hub->second;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

TokenSections read_sections() {
  fs::path path = stored_tokens_file();
  return parse_stored_tokens(read_if_there(path), path.string());
}

TokenHubs read_token_hubs() {
  fs::path path = token_hubs_file();
  std::string text = read_if_there(path);
  TokenHubs hubs;
  if (text.empty()) return hubs;
  Json json = Json::parse(text, path.string());
  auto* entries = json.get_if<Json::Object>();
  for (auto& [key, value] : entries ? *entries : Json::Object{{"", nullptr}}) {
    auto* hub = value.get_if<std::string>();
    if (!hub || !is_hex(key, 64))
      throw FormatError(path.string() +
                        ": expected a hub's address for each token's SHA-256; `pretrained logout` "
                        "removes the file");
    hubs[key] = *hub;
  }
  return hubs;
}

}  // namespace

TokenSections parse_stored_tokens(const std::string& text, const std::string& source) {
  Parser parser(source);
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    parser.line(std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
  return parser.finish();
}

std::string write_stored_tokens(const TokenSections& sections) {
  std::string text;
  for (auto& [name, fields] : sections) {
    text += "[" + name + "]\n";
    for (auto& [key, value] : fields) {
      text += key + " = ";
      for (char c : value) text += c == '\n' ? std::string("\n\t") : std::string(1, c);
      text += "\n";
    }
    text += "\n";
  }
  return text;
}

StoredTokens::StoredTokens() : path_(stored_tokens_file()), lock_(lock_path(path_)) {
  sections = read_sections();
  hubs_ = read_token_hubs();
}

std::vector<StoredToken> StoredTokens::list() const { return list_of(sections, hubs_); }

void StoredTokens::put(const StoredToken& token) {
  bool plain = std::none_of(token.name.begin(), token.name.end(),
                            [](unsigned char c) { return c < ' ' || c == 127; });
  if (token.name.empty() || token.name == "DEFAULT" || !plain)
    throw FormatError("'" + printable(token.name) + "' cannot be the name of a token");
  TokenFields fields{{"hf_token", clean_token(token.token, token.name)}};
  if (!token.refresh_token.empty())
    fields.emplace_back("refresh_token", clean_token(token.refresh_token, token.name));
  if (token.expires_at) fields.emplace_back("expires_at", std::to_string(token.expires_at));
  sections[token.name] = fields;
  if (!token.endpoint.empty()) hubs_[sha256_hex(fields[0].second)] = token.endpoint;
}

// The hubs first: a token without its hub could be sent anywhere.
void StoredTokens::save() {
  std::set<std::string> stored;
  for (auto& [name, fields] : sections) stored.insert(sha256_hex(field_of(fields, "hf_token")));
  std::erase_if(hubs_, [&](auto& entry) { return !stored.contains(entry.first); });
  if (!hubs_.empty() || fs::exists(token_hubs_file()))
    write_secret(token_hubs_file(), Json(Json::Object(hubs_.begin(), hubs_.end())).dump(2));
  write_secret(path_, write_stored_tokens(sections));
}

std::vector<StoredToken> read_stored_tokens() {
  return list_of(read_sections(), read_token_hubs());
}

std::string hub_of_token(const std::string& token) {
  auto hubs = read_token_hubs();
  auto found = hubs.find(sha256_hex(token));
  return found == hubs.end() ? "" : found->second;
}

std::string clean_token(const std::string& text, const std::string& source) {
  std::string token = trimmed(text);
  if (!std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 127; }))
    throw FormatError(printable(source) +
                      ": no token: it holds a blank, a line break or a letter "
                      "that no token has");
  return token;
}

std::string file_token() { return clean_token(read_if_there(token_file()), token_file().string()); }

void write_file_token(const std::string& token) { write_secret(token_file(), token); }

}  // namespace pretrained::hub
