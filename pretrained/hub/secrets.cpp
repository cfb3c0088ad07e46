// Credentials have prefixes so that they can be found; what follows must look random, or every
// manual would be one.

#include <algorithm>
#include <bitset>
#include <set>

#include "pretrained/base/files.h"
#include "pretrained/hub/upload.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxText = 5 << 20;

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alnum(char c) { return is_upper(c) || is_lower(c) || is_digit(c); }

struct Kind {
  const char *prefix, *also;  // characters besides letters and digits
  size_t min, max;            // characters after the prefix
  const char* what;
};
constexpr size_t kAny = 4096;
constexpr Kind kKinds[] = {
    {"hf_", "", 34, kAny, "an access token of a hub (hf_…)"},
    {"AKIA", "", 16, 16, "an access key of AWS (AKIA…)"},
    {"ASIA", "", 16, 16, "an access key of AWS (ASIA…)"},
    {"ghp_", "", 36, kAny, "a token of GitHub (ghp_…)"},
    {"gho_", "", 36, kAny, "a token of GitHub (gho_…)"},
    {"ghs_", "", 36, kAny, "a token of GitHub (ghs_…)"},
    {"github_pat_", "_", 60, kAny, "a token of GitHub (github_pat_…)"},
    {"sk-", "-_", 32, kAny, "an API key (sk-…)"},
    {"xoxb-", "-", 20, kAny, "a token of Slack (xoxb-…)"},
    {"xoxp-", "-", 20, kAny, "a token of Slack (xoxp-…)"},
    {"xoxa-", "-", 20, kAny, "a token of Slack (xoxa-…)"},
    {"xoxr-", "-", 20, kAny, "a token of Slack (xoxr-…)"},
    {"xoxs-", "-", 20, kAny, "a token of Slack (xoxs-…)"},
};

// Not "hf_xxxxxxxx…", not "sk-a-sentence-in-lower-case", not the keys in AWS's manuals.
bool looks_random(std::string_view text) {
  std::bitset<256> seen;
  for (char c : text) seen.set(static_cast<unsigned char>(c));
  return seen.count() >= 8 && std::ranges::any_of(text, is_digit) &&
         std::ranges::any_of(text, is_upper) && !text.ends_with("EXAMPLE");
}

bool matches(const Kind& kind, std::string_view rest) {
  size_t size = 0;
  auto taken = [&](char c) {
    return is_alnum(c) || std::string_view(kind.also).find(c) != std::string_view::npos;
  };
  while (size < rest.size() && size <= kind.max && taken(rest[size])) ++size;
  return size >= kind.min && size <= kind.max && looks_random(rest.substr(0, size));
}

// A key and not only its first line: base64 follows, after a line break or the two characters \n.
bool has_key(std::string_view after) {
  size_t run = 0;
  for (char c : after.substr(0, 600)) {
    run = is_alnum(c) || c == '+' || c == '/' || c == '=' ? run + 1 : 0;
    if (run == 40) return true;
  }
  return false;
}

bool is_private_key(std::string_view rest) {  // behind "-----BEGIN "
  size_t end = rest.find("-----");
  if (end == rest.npos || end > 60) return false;
  return rest.substr(0, end).find("PRIVATE KEY") != rest.npos && has_key(rest.substr(end + 5));
}

class Scanner {
 public:
  Scanner(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  std::vector<std::string> run() {
    for (auto& kind : kKinds)
      each(kind.prefix, [&](size_t at, std::string_view rest) {
        bool inside = at > 0 && (is_alnum(text_[at - 1]) || text_[at - 1] == '_');
        if (!inside && matches(kind, rest)) report(at, kind.what);
      });
    each("-----BEGIN ", [&](size_t at, std::string_view rest) {
      if (is_private_key(rest)) report(at, "a private key");
    });
    std::vector<std::string> lines;
    for (auto& [line, what] : found_)
      lines.push_back(name_ + ": line " + std::to_string(line) + ": " + what);
    return lines;
  }

 private:
  template <class F>
  void each(std::string_view prefix, F call) {
    for (size_t at = text_.find(prefix); at != text_.npos; at = text_.find(prefix, at + 1))
      call(at, text_.substr(at + prefix.size()));
  }
  void report(size_t at, const char* what) {
    found_.emplace(1 + std::count(text_.begin(), text_.begin() + std::ptrdiff_t(at), '\n'), what);
  }

  std::string_view text_;
  std::string name_;
  std::set<std::pair<size_t, std::string>> found_;
};

// The number of the first line NAME=value whose name says that the value is secret; 0: none.
size_t secret_setting(std::string_view text) {
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    size_t equals = line.find('=');
    if (equals == line.npos || line.starts_with('#')) continue;
    std::string_view name = line.substr(0, equals), value = line.substr(equals + 1);
    bool placeholder = value.find('<') != value.npos || value.find("your") != value.npos ||
                       value.find("${") != value.npos;
    for (const char* ending : {"_KEY", "TOKEN", "SECRET", "PASSWORD"})
      if (name.ends_with(ending) && value.size() >= 8 && !placeholder) return number;
  }
  return 0;
}

// What the file's own name says.
std::string secret_kind(const std::string& base, std::string_view text) {
  for (const char* key : {"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"})
    if (base == key) return "a private key of SSH, by its name";
  if ((base == ".netrc" || base == "_netrc") && text.find("password") != text.npos)
    return "passwords, by its name";
  if (base == ".git-credentials") return "passwords of git, by its name";
  if (base == "stored_tokens" && text.find("hf_token") != text.npos)
    return "access tokens of a hub, by its name";
  bool example =
      base.ends_with(".example") || base.ends_with(".sample") || base.ends_with(".template");
  if ((base == ".env" || base.starts_with(".env.")) && !example)
    if (size_t line = secret_setting(text))
      return "line " + std::to_string(line) + ": a secret setting";
  return "";
}

}  // namespace

std::vector<std::string> find_secrets(const fs::path& file, const std::string& name) {
  std::error_code error;
  std::string text;
  if (fs::file_size(file, error) <= kMaxText && !error) text = read_file(file, kMaxText);
  std::string base = fs::path(name).filename();
  if (std::string kind = secret_kind(base, text); !kind.empty())
    return {printable(name) + ": " + kind};
  if (text.substr(0, 8192).find('\0') != text.npos) return {};
  return Scanner(text, printable(name)).run();
}

}  // namespace pretrained::hub
