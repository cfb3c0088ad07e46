#include "pretrained/code/trust.h"

#include <fnmatch.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/json.h"
#include "pretrained/base/sha256.h"
#include "pretrained/base/text.h"
#include "pretrained/code/diff.h"

namespace pretrained {

std::string CodeReview::name() const {
  return commit.empty() ? repository : repository + "@" + commit;
}

namespace {

std::string file_list(const code::Sources& sources) {
  std::string out;
  for (auto& source : sources) out += (out.empty() ? "" : ", ") + printable(source.path);
  return out;
}

[[noreturn]] void refuse(const CodeReview& review, const std::string& message) {
  std::vector<std::string> files;
  for (auto& file : review.files) files.push_back(file.path);
  throw UntrustedCode(message, std::move(files), review.digest, review.diff);
}

[[noreturn]] void refuse(const CodeReview& review) {
  if (!review.trusted_before.empty())
    refuse(review, review.name() + ": its C++ code is not the code that was trusted (" +
                       review.trusted_before + "). Read what changed (pretrained trust show " +
                       review.name() + "), then `pretrained trust add " + review.name() +
                       "` if you trust it");
  refuse(review, review.name() +
                     " holds C++ code that would be compiled and run: " + file_list(review.files) +
                     ". Read it, then pass trust_remote_code = true (--trust-remote-code) if you "
                     "trust it.");
}

bool is_listed(const std::vector<std::string>& patterns, const std::string& repository) {
  return std::any_of(patterns.begin(), patterns.end(), [&](auto& pattern) {
    return fnmatch(pattern.c_str(), repository.c_str(), 0) == 0;
  });
}

}  // namespace

void TrustRemoteCode::require(CodeReview review,
                              const std::function<void(const std::string&)>& notice,
                              const std::function<void(CodeReview&)>& complete) const {
  if (!policy_.repositories.empty() && !is_listed(policy_.repositories, review.repository))
    refuse(review, review.name() + " holds C++ code, and this program runs only that of " +
                       policy_.repositories[0] + (policy_.repositories.size() > 1 ? ", …" : ""));
  if (policy_.require_commit && !review.pinned)
    refuse(review,
           review.name() +
               " holds C++ code, and this program runs only that of a commit that is named");
  auto ask = [&] {
    if (complete) complete(review);
    return policy_.ask && policy_.ask(review);
  };
  if (always_ == false) refuse(review);
  if (!policy_.record) return ask() ? void() : refuse(review);

  code::TrustFile trusted(policy_.trust_file);
  for (auto& entry : trusted.entries())
    if (entry.repository == review.repository && entry.sha256 == review.digest) return;
  code::compare_with(trusted, review);
  bool recorded = always_ == true && review.trusted_before.empty() &&
                  trusted.add(review, "true", /*first=*/true);
  if (!recorded) {
    code::compare_with(trusted, review);
    if (always_ == true || !ask()) refuse(review);
    trusted.add(review, "callback");
  }
  if (notice)
    notice("trusted from now on: the C++ code of " + review.name() + " (" +
           file_list(review.files) + ")");
}

void TrustRemoteCode::require_possible(const std::string& repository,
                                       const std::string& commit) const {
  bool possible = always_.value_or(bool(policy_.ask));
  if (!always_ && !possible && policy_.record) {
    auto entries = code::TrustFile(policy_.trust_file).entries();
    possible =
        std::ranges::find(entries, repository, &code::TrustEntry::repository) != entries.end();
  }
  if (!policy_.repositories.empty() && !is_listed(policy_.repositories, repository))
    possible = false;
  if (possible) return;
  std::string name = CodeReview{.repository = repository, .commit = commit}.name();
  throw UntrustedCode(name +
                          " holds C++ code that the model names, and none of that repository is "
                          "trusted: nothing of it was fetched. Read it (pretrained trust show " +
                          name +
                          "), then pass trust_remote_code = true (--trust-remote-code) if "
                          "you trust it.",
                      {});
}

namespace code {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxTrustFile = 16 << 20, kMaxFrames = 16 << 20;

const Json& member(const Json& object, const char* name, const std::string& where) {
  if (auto* found = object.find(name)) return *found;
  throw FormatError(where + ": field '" + name + "' is missing");
}

std::string read_text(const Json& object, const char* name, const std::string& where) {
  auto* text = member(object, name, where).get_if<std::string>();
  if (!text || text->size() > 20000)
    throw FormatError(where + ": field '" + name + "' must be a string of at most 20000 bytes");
  return *text;
}

void check_keys(const Json::Object* object, std::initializer_list<const char*> known,
                const std::string& where) {
  if (!object) throw FormatError(where + ": expected an object");
  for (auto& [key, value] : *object)
    if (std::none_of(known.begin(), known.end(), [&](auto* name) { return key == name; }))
      throw FormatError(where + ": unknown field '" + printable(key) + "'");
}

TrustEntry parse_entry(const Json& json, const std::string& where) {
  check_keys(json.get_if<Json::Object>(),
             {"api_level", "commit", "how", "repository", "sha256", "when"}, where);
  TrustEntry entry{read_text(json, "repository", where), read_text(json, "commit", where),
                   read_text(json, "sha256", where),     0,
                   read_text(json, "when", where),       read_text(json, "how", where)};
  auto* level = member(json, "api_level", where).get_if<int64_t>();
  if (!level || *level < 0 || *level > 1000000)
    throw FormatError(where + ": field 'api_level' must be a small integer");
  entry.api_level = int(*level);
  if (entry.repository.empty()) throw FormatError(where + ": field 'repository' is empty");
  if (!entry.commit.empty() && !is_hex(entry.commit, 40))
    throw FormatError(where + ": field 'commit' must be 40 hexadecimal digits, or empty");
  if (!is_hex(entry.sha256, 64))
    throw FormatError(where + ": field 'sha256' must be 64 hexadecimal digits");
  return entry;
}

std::string now() {
  std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

void check_folder(const fs::path& file) {
  fs::path folder = file.parent_path();
  struct stat status{};
  if (stat(folder.c_str(), &status) != 0) return;  // nothing is there to be read
  bool owned = status.st_uid == geteuid() || status.st_uid == 0;
  if (!owned || ((status.st_mode & 022) && !(status.st_mode & S_ISVTX)))
    throw IoError(folder.string() +
                  ": others can write here what would be trusted: take their rights, or set "
                  "PRETRAINED_TRUST_FILE to a file in a folder of your own");
}

bool is_of(const TrustEntry& entry, const std::string& repository, const std::string& commit) {
  return entry.repository == repository && (commit.empty() || entry.commit == commit);
}

}  // namespace

fs::path default_trust_file() {
  auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return fs::path(value ? value : "");
  };
  if (fs::path file = variable("PRETRAINED_TRUST_FILE"); !file.empty()) return fs::absolute(file);
  fs::path folder = variable("XDG_CONFIG_HOME");
  if (folder.empty() && !variable("HOME").empty()) folder = variable("HOME") / ".config";
  return folder.empty() ? fs::path() : fs::absolute(folder / "pretrained/trust.json");
}

std::vector<TrustEntry> parse_trust(std::string_view text, const std::string& source) {
  Json json = Json::parse(text, source);
  check_keys(json.get_if<Json::Object>(), {"trusted", "version"}, source);
  if (member(json, "version", source) != Json(1))
    throw FormatError(source + ": field 'version' must be 1: it was written by another version");
  auto* list = member(json, "trusted", source).get_if<Json::Array>();
  if (!list) throw FormatError(source + ": field 'trusted' must be a list");
  std::vector<TrustEntry> entries;
  for (auto& entry : *list)
    entries.push_back(
        parse_entry(entry, source + ": trusted[" + std::to_string(entries.size()) + "]"));
  return entries;
}

std::string frame_sources(const Sources& sources) {
  std::string out;
  auto add = [&](const std::string& bytes) {
    uint64_t size = bytes.size();
    out.append(reinterpret_cast<const char*>(&size), sizeof size).append(bytes);
  };
  for (auto& source : sources) add(source.path), add(source.bytes);
  return out;
}

std::optional<Sources> parse_frames(std::string_view bytes) {
  auto take = [&](std::string& out) {
    uint64_t size = 0;
    if (bytes.size() < sizeof size) return false;
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes.remove_prefix(sizeof size);
    if (size > bytes.size()) return false;
    out = bytes.substr(0, size);
    bytes.remove_prefix(size);
    return true;
  };
  Sources sources;
  while (!bytes.empty()) {
    auto& source = sources.emplace_back();
    if (!take(source.path) || !take(source.bytes)) return std::nullopt;
  }
  return sources;
}

TrustFile::TrustFile(fs::path path) : path_(std::move(path)) {
  path_ = path_.empty() ? default_trust_file() : fs::absolute(path_);
}

std::vector<TrustEntry> TrustFile::entries() const {
  struct stat status{};
  if (path_.empty() || lstat(path_.c_str(), &status) != 0) {
    if (!path_.empty() && errno != ENOENT && errno != ENOTDIR) throw_errno(path_.string(), errno);
    return {};
  }
  check_folder(path_);
  if (!is_private_file(path_))
    throw IoError(path_.string() +
                  ": must be a file of yours, no link, that nobody else can write: others could "
                  "put code here that would be run");
  auto text = read_private_file(path_, kMaxTrustFile);
  if (!text)
    throw FormatError(path_.string() + ": longer than " + std::to_string(kMaxTrustFile) + " bytes");
  return parse_trust(*text, path_.string());
}

fs::path TrustFile::prepare() const {
  if (path_.empty())
    throw IoError("no place to record what is trusted: set PRETRAINED_TRUST_FILE to a file");
  std::error_code error;
  fs::path folder = path_.parent_path();
  if (fs::create_directories(folder, error)) chmod(folder.c_str(), 0700);
  check_folder(path_);
  fs::path lock = path_;
  return lock += ".lock";
}

fs::path TrustFile::code_file(const std::string& sha256) const {
  fs::path folder = path_;
  return (folder += ".code") / sha256;
}

void TrustFile::write(const std::vector<TrustEntry>& entries) const {
  Json::Array list;
  for (auto& entry : entries)
    list.push_back(Json::Object{{"api_level", int64_t(entry.api_level)},
                                {"commit", entry.commit},
                                {"how", entry.how},
                                {"repository", entry.repository},
                                {"sha256", entry.sha256},
                                {"when", entry.when}});
  Json json = Json::Object{{"trusted", std::move(list)}, {"version", 1}};
  std::string text = json.dump() + "\n";
  if (text.size() > kMaxTrustFile)
    throw IoError(path_.string() + ": full; `pretrained trust revoke` what is no longer needed");
  write_file_atomically(path_, text, 0600);
}

bool TrustFile::add(const CodeReview& review, const std::string& how, bool first) const {
  FileLock lock(prepare());
  auto list = entries();
  auto same_repository = [&](auto& entry) { return entry.repository == review.repository; };
  if (first && std::any_of(list.begin(), list.end(), same_repository)) return false;
  std::erase_if(
      list, [&](auto& entry) { return same_repository(entry) && entry.sha256 == review.digest; });
  list.push_back({review.repository, review.commit, review.digest, review.api_level, now(), how});
  // The code first: an entry without it could not be shown.
  fs::path code = code_file(review.digest);
  if (mkdir(code.parent_path().c_str(), 0700) != 0 && errno != EEXIST)
    throw_errno(code.parent_path().string(), errno);
  write_file_atomically(code, frame_sources(review.files), 0600);
  write(list);
  return true;
}

std::vector<TrustEntry> TrustFile::revoke(const std::string& repository,
                                          const std::string& commit) const {
  if (entries().empty()) return {};
  FileLock lock(prepare());
  std::vector<TrustEntry> kept, removed;
  for (auto& entry : entries())
    (is_of(entry, repository, commit) ? removed : kept).push_back(entry);
  if (removed.empty()) return {};
  write(kept);
  std::error_code error;
  for (auto& entry : removed)
    if (std::none_of(kept.begin(), kept.end(),
                     [&](auto& other) { return other.sha256 == entry.sha256; }))
      fs::remove(code_file(entry.sha256), error);
  return removed;
}

std::optional<Sources> TrustFile::sources(const std::string& sha256) const {
  auto bytes = read_private_file(code_file(sha256), kMaxFrames);
  if (!bytes || sha256_hex(*bytes) != sha256) return std::nullopt;
  return parse_frames(*bytes);
}

CodeReview review_code(const std::string& repository, const std::string& commit, Sources sources,
                       int api_level) {
  CodeReview review;
  // A folder's name may hold anything, and JSON not.
  review.repository =
      commit.empty() ? printable(fs::weakly_canonical(repository).string(), 16000) : repository;
  review.commit = commit;
  review.digest = digest(sources);
  review.api_level = api_level;
  review.hints = find_hints(sources);
  review.files = std::move(sources);
  return review;
}

void compare_with(const TrustFile& trusted, CodeReview& review) {
  auto entries = trusted.entries();
  auto last = std::find_if(entries.rbegin(), entries.rend(),
                           [&](auto& entry) { return entry.repository == review.repository; });
  if (last == entries.rend() || last->sha256 == review.digest) return;
  review.trusted_before = last->when + (last->commit.empty() ? "" : ", commit " + last->commit);
  auto before = trusted.sources(last->sha256);
  review.diff = before ? unified_diff(*before, review.files)
                       : "(the code trusted then is no longer kept here)\n";
}

}  // namespace code
}  // namespace pretrained
