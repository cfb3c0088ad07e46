#include "pretrained/hub/tree_cache.h"

#include "pretrained/base/files.h"
#include "pretrained/hub/blob_hash.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLimit = 256 << 20;  // about a million files, as a hub may list

std::string text_of(const Json& json, const char* name) {
  const Json* member = json.find(name);
  const auto* text = member ? member->get_if<std::string>() : nullptr;
  return text ? *text : "";
}

std::optional<RemoteFile> file_of(const std::string& path, const Json& json) {
  const Json* size = json.find("size");
  const auto* bytes = size ? size->get_if<int64_t>() : nullptr;
  RemoteFile file{path, text_of(json, "blob_id"), bytes ? uint64_t(*bytes) : 0,
                  text_of(json, "lfs_sha256"), text_of(json, "xet_hash")};
  bool good = bytes && *bytes >= 0 && is_hex(file.oid, 40) &&
              (file.sha256.empty() || is_hex(file.sha256, 64)) &&
              (file.xet_hash.empty() || is_hex(file.xet_hash, 64));
  return good ? std::optional(file) : std::nullopt;
}

fs::path tree_file(const fs::path& folder, const std::string& commit) {
  return folder / "trees" / (commit + ".json");
}

}  // namespace

std::optional<std::vector<RemoteFile>> read_tree(const fs::path& folder,
                                                 const std::string& commit) {
  if (!is_hex(commit, 40)) return std::nullopt;
  fs::path path = tree_file(folder, commit);
  std::vector<RemoteFile> files;
  try {
    Json json = Json::parse(read_file(path, kLimit), path.string(), kLimit);
    const Json* version = json.find("format_version");
    const Json* list = json.find("files");
    if (!version || *version != Json(1) || !list || !list->get_if<Json::Object>())
      return std::nullopt;
    for (auto& [name, value] : *list->get_if<Json::Object>()) {
      check_relative(folder, name);
      auto file = file_of(name, value);
      if (!file) return std::nullopt;
      files.push_back(std::move(*file));
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  return files;
}

void write_tree(const fs::path& folder, const std::string& commit,
                const std::vector<RemoteFile>& files) {
  Json::Object list;
  for (auto& file : files) {
    Json::Object entry{{"size", int64_t(file.size)}, {"blob_id", file.oid}};
    if (!file.sha256.empty()) {
      entry["lfs_sha256"] = file.sha256;
      entry["lfs_size"] = int64_t(file.size);
    }
    if (!file.xet_hash.empty()) entry["xet_hash"] = file.xet_hash;
    list[file.path] = std::move(entry);
  }
  Json json = Json::Object{{"format_version", 1}, {"files", std::move(list)}};
  std::error_code error;
  fs::create_directories(folder / "trees", error);
  if (error) throw_errno((folder / "trees").string(), error.value());
  write_file_atomically(tree_file(folder, commit), json.dump(1), 0600);
}

}  // namespace pretrained::hub
