#include "pretrained/hub/lock.h"

#include <unistd.h>

#include <algorithm>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/json.h"
#include "pretrained/base/sha256.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/download.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/tree_cache.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr auto kLockName = "pretrained.lock";

void check_keys(const Json* json, std::initializer_list<const char*> keys,
                const std::string& where) {
  auto* object = json ? json->get_if<Json::Object>() : nullptr;
  bool whole = object && object->size() == keys.size();
  std::string list;
  for (auto* key : keys) {
    whole = whole && object->contains(key);
    list += (list.empty() ? "" : ", ") + std::string(key);
  }
  if (!whole) throw FormatError(where + ": expected an object of " + list);
}

std::string text_of(const Json& object, const char* key, const std::string& where) {
  auto* text = object.find(key)->get_if<std::string>();
  if (!text) throw FormatError(where + ": field '" + key + "' must be a string");
  return *text;
}

// Every file below, sorted, '/' between folders; hidden ones and the lock left out.
std::vector<std::string> files_of(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    std::string name = entry->path().filename();
    std::error_code unknown;
    bool is_folder = fs::is_directory(entry->symlink_status(unknown));
    if (name.starts_with('.')) {
      if (is_folder) entry.disable_recursion_pending();
      continue;
    }
    std::string path = entry->path().lexically_relative(folder).generic_string();
    if (!is_folder && path != kLockName) files.push_back(path);
  }
  if (error) throw IoError(folder.string() + ": " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

LockedFile hash_file(const fs::path& folder, const std::string& path) {
  FileDescriptor file = open_inside(folder, path);
  Sha256 hash;
  LockedFile locked;
  std::string buffer(1 << 20, '\0');
  for (;;) {
    ssize_t got = read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno((folder / path).string(), errno);
    if (got == 0) break;
    hash.update(std::string_view(buffer).substr(0, size_t(got)));
    locked.size += uint64_t(got);
  }
  locked.sha256 = hash.hex();
  return locked;
}

// What the files of a snapshot must hash to: as the commit was listed, else as their blobs are
// named.
class Etags {
 public:
  explicit Etags(const fs::path& snapshot) : snapshot_(snapshot) {
    fs::path repo = snapshot.parent_path().parent_path();
    for (auto& file : read_tree(repo, snapshot.filename()).value_or(std::vector<RemoteFile>{}))
      listed_[file.path] = file.etag();
  }
  // "" where no hub's client put the file here.
  std::string of(const std::string& path) const {
    if (auto found = listed_.find(path); found != listed_.end()) return found->second;
    std::error_code no_link;
    std::string blob = fs::read_symlink(snapshot_ / path, no_link).filename();
    return is_etag(blob) ? blob : "";
  }

 private:
  fs::path snapshot_;
  std::map<std::string, std::string> listed_;
};

std::string shown(const fs::path& folder, const std::string& path) {
  return printable((folder / path).string());
}

}  // namespace

std::string Lock::text() const {
  Json::Object list;
  for (auto& [path, file] : files)
    list[path] = Json::Object{{"sha256", file.sha256}, {"size", int64_t(file.size)}};
  return Json(Json::Object{
                  {"commit", commit}, {"files", list}, {"repository", repository}, {"version", 1}})
             .dump() +
         "\n";
}

Lock parse_lock(std::string_view text, const std::string& source) {
  Json json = Json::parse(text, source);
  check_keys(&json, {"commit", "files", "repository", "version"}, source);
  if (*json.find("version") != Json(1))
    throw FormatError(source + ": field 'version' must be 1: it was written by another version");
  Lock lock{text_of(json, "repository", source), text_of(json, "commit", source), {}};
  if (!lock.commit.empty() && !is_hex(lock.commit, 40))
    throw FormatError(source + ": field 'commit' must be 40 hexadecimal digits, or empty");
  auto* files = json.find("files")->get_if<Json::Object>();
  if (!files) throw FormatError(source + ": field 'files' must be an object");
  for (auto& [path, file] : *files) {
    std::string where = source + ": file '" + printable(path) + "'";
    check_relative(source, path);
    check_keys(&file, {"sha256", "size"}, where);
    auto* size = file.find("size")->get_if<int64_t>();
    LockedFile locked{text_of(file, "sha256", where), size ? uint64_t(*size) : 0};
    if (!size || *size < 0 || !is_hex(locked.sha256, 64))
      throw FormatError(where + ": expected a sha256 of 64 hexadecimal digits and a size");
    lock.files[path] = locked;
  }
  return lock;
}

Lock lock_folder(const fs::path& folder) {
  Lock lock;
  for (auto& path : files_of(folder)) lock.files[path] = hash_file(folder, path);
  return lock;
}

std::vector<std::string> check_lock(const fs::path& folder, const Lock& lock,
                                    const std::vector<std::string>& patterns) {
  std::vector<std::string> problems;
  auto wanted = [&](const std::string& path) {
    return patterns.empty() || matches_any(path, patterns);
  };
  for (auto& [path, expected] : lock.files) {
    if (!wanted(path)) continue;
    try {
      LockedFile found = hash_file(folder, path);
      if (found != expected)
        problems.push_back(shown(folder, path) + ": " + std::to_string(found.size) +
                           " bytes of SHA-256 " + found.sha256 + ", locked are " +
                           std::to_string(expected.size) + " bytes of " + expected.sha256);
    } catch (const Error& error) {
      problems.push_back(error.what());
    }
  }
  for (auto& path : files_of(folder))
    if (wanted(path) && !lock.files.contains(path))
      problems.push_back(shown(folder, path) + ": not in the lock");
  return problems;
}

void check_cached_bytes(const fs::path& snapshot, const std::string& path, std::string_view bytes) {
  std::string etag = Etags(snapshot).of(path);
  if (etag.empty())
    throw IntegrityError(shown(snapshot, path) + ": no file that a hub's client put here");
  BlobHasher hasher(etag, bytes.size());
  hasher.update(bytes);
  if (std::string found = hasher.hex(); found != etag)
    throw IntegrityError(shown(snapshot, path) +
                         ": the cache was tampered with: its bytes hash to " + found + ", not " +
                         etag + "; remove the file and load again");
}

std::vector<std::string> check_snapshot(const fs::path& folder) {
  std::vector<std::string> problems;
  Etags etags(folder);
  for (auto& path : files_of(folder)) {
    try {
      std::string etag = etags.of(path);
      if (etag.empty()) continue;
      open_inside(folder, path);  // no link that leads out of the cache
      if (std::string found = hash_blob(folder / path, etag); found != etag)
        problems.push_back(shown(folder, path) + ": its bytes hash to " + found + ", not " + etag);
    } catch (const Error& error) {
      problems.push_back(error.what());
    }
  }
  return problems;
}

}  // namespace pretrained::hub
