// Credentials have prefixes so that they can be found; what follows must look random, or every
// manual would be one.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <set>

#include "pretrained/base/files.h"
#include "pretrained/hub/upload.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr size_t kPiece = 4 << 20;   // read at once
constexpr size_t kBehind = 8 << 10;  // more than has to be seen of what begins before it
constexpr size_t kMostFound = 1000;  // of one file
constexpr std::string_view kKeyBegin = "-----BEGIN ";

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

// Goes through a text that comes in pieces.
class Scanner {
 public:
  explicit Scanner(std::string name) : name_(std::move(name)) {
    for (auto& kind : kKinds) starts_.set(pair(kind.prefix));
    starts_.set(pair(kKeyBegin.data()));
  }

  // What begins in [from, until) of `text`, which goes on far enough behind it.
  void look(std::string_view text, size_t from, size_t until) {
    for (size_t at = from; at < until; ++at) {
      if (text[at] == '\n') ++line_;
      if (at + 1 < text.size() && starts_.test(pair(text.data() + at))) look_at(text, at);
    }
  }
  bool has_enough() const { return found_.size() >= kMostFound; }

  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (auto& [line, what] : found_)
      lines.push_back(name_ + ": line " + std::to_string(line) + ": " + what);
    return lines;
  }

 private:
  static size_t pair(const char* text) {
    return static_cast<unsigned char>(text[0]) << 8 | static_cast<unsigned char>(text[1]);
  }
  void look_at(std::string_view text, size_t at) {
    std::string_view rest = text.substr(at);
    bool inside = at > 0 && (is_alnum(text[at - 1]) || text[at - 1] == '_');
    for (auto& kind : kKinds)
      if (rest.starts_with(kind.prefix) && !inside &&
          matches(kind, rest.substr(std::string_view(kind.prefix).size())))
        found_.emplace(line_, kind.what);
    if (rest.starts_with(kKeyBegin) && is_private_key(rest.substr(kKeyBegin.size())))
      found_.emplace(line_, "a private key");
  }

  std::string name_;
  std::bitset<65536> starts_;  // two bytes with which something may begin
  size_t line_ = 1;
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

std::vector<std::string> find_secrets(const fs::path& file, const std::string& name,
                                      const std::function<void()>& on_piece) {
  FileDescriptor source(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (source.get() < 0) throw_errno(printable(file.string()), errno);
  std::string text(kPiece + kBehind + 1, '\0');
  auto fill = [&](size_t kept) {
    size_t size = kept;
    for (ssize_t got = 1; got != 0 && size < text.size();) {
      got = read(source.get(), text.data() + size, text.size() - size);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw_errno(printable(file.string()), errno);
      size += size_t(got);
    }
    if (on_piece) on_piece();
    return size;
  };
  size_t size = fill(0);
  std::string_view whole = std::string_view(text).substr(0, size);
  if (auto kind = secret_kind(fs::path(name).filename(), whole); !kind.empty())
    return {printable(name) + ": " + kind};
  if (whole.substr(0, 8192).find('\0') != whole.npos) return {};
  Scanner scanner(printable(name));
  for (size_t from = 0;;) {
    bool at_end = size < text.size();
    size_t until = at_end ? size : size - kBehind;
    scanner.look(std::string_view(text).substr(0, size), from, until);
    if (at_end || scanner.has_enough()) return scanner.lines();
    // The byte before what is looked at next says whether that is inside a word.
    text.copy(text.data(), size - until + 1, until - 1);
    size = fill(size - until + 1);
    from = 1;
  }
}

}  // namespace pretrained::hub
