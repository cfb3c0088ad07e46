// Downloads and the cache.
#include <cstdlib>

#include "hub_tool.h"
#include "pretrained/hub/cache.h"
#include "pretrained/hub/download.h"

using namespace pretrained;

namespace {

std::string text(const Json& options, const char* name) {
  const Json* value = options.find(name);
  return value && value->get_if<std::string>() ? *value->get_if<std::string>() : "";
}

std::vector<std::string> list(const Json& options, const char* name) {
  std::vector<std::string> result;
  if (const Json* value = options.find(name))
    for (auto& item : *value->get_if<Json::Array>()) result.push_back(*item.get_if<std::string>());
  return result;
}

bool flag(const Json& options, const char* name) {
  const Json* value = options.find(name);
  return value && *value == Json(true);
}

template <class Strings>
Json array(const Strings& strings) {
  Json::Array result;
  for (auto& item : strings) result.push_back(Json(std::string(item)));
  return result;
}

// download REPO {"file", "type", "revision", "cache_dir", "local_dir", "allow", "ignore", "force", "local", "xet", "workers"}: all
// or one file. HUB_TOOL_LIMIT=N cancels after N bytes.
Json download(const Call& call) {
  const auto& words = call.words;
  Json json = Json::parse(words.size() > 1 ? words[1] : "{}", "options");
  Json::Array events;
  hub::Download options{.cache_dir = text(json, "cache_dir"),
                        .local_dir = text(json, "local_dir"),
                        .allow_patterns = list(json, "allow"),
                        .ignore_patterns = list(json, "ignore"),
                        .force_download = flag(json, "force"),
                        .local_files_only = flag(json, "local"),
                        .xet = flag(json, "xet")};
  if (auto revision = text(json, "revision"); !revision.empty()) options.revision = revision;
  if (const Json* workers = json.find("workers")) options.max_workers = int(*workers->get_if<int64_t>());
  const char* limit = std::getenv("HUB_TOOL_LIMIT");
  uint64_t wire = 0;
  options.on_transfer = [&](const hub::TransferEvent& event) {
    wire = event.wire_bytes;
    if (event.kind == hub::TransferEvent::Kind::finished) events.push_back(event.file + ": " + event.text);
    if (event.kind == hub::TransferEvent::Kind::notice) events.push_back(event.text);
    if (limit && wire > std::stoull(limit)) throw Error("cancelled");
  };
  hub::Repo repo{words.at(0)};
  if (auto type = text(json, "type"); !type.empty()) repo.type = hub::parse_repo_type(type);
  hub::HubClient client;
  if (auto file = text(json, "file"); !file.empty())
    return Json::Object{{"file", hub::hf_hub_download(client, repo, file, options).string()}};
  auto snapshot = hub::snapshot_download(client, repo, options);
  return Json::Object{{"folder", snapshot.folder.string()},
                      {"commit", snapshot.commit},
                      {"files", array(snapshot.files)},
                      {"downloaded", int64_t(snapshot.downloaded)},
                      {"events", std::move(events)}};
}

// cache ls | verify REPO | rm REPO [COMMIT]
Json cache(const Call& call) {
  const auto& words = call.words;
  hub::Cache cache;
  if (words.at(0) == "verify") return array(hub::verify_cached(cache, {words.at(1)}));
  if (words.at(0) == "rm")
    return int64_t(hub::remove_cached(cache, {words.at(1)}, words.size() > 2 ? words[2] : ""));
  Json::Object repos;
  for (auto& repo : hub::scan_cache(cache)) {
    Json::Object revisions;
    for (auto& revision : repo.revisions)
      revisions[revision.commit] = Json::Object{{"refs", array(revision.refs)},
                                                {"size", int64_t(revision.size)},
                                                {"files", int64_t(revision.files)}};
    repos[repo.repo.id] = Json::Object{{"size", int64_t(repo.size)},
                                       {"revisions", std::move(revisions)},
                                       {"problems", array(repo.problems)}};
  }
  return repos;
}

}  // namespace

Verbs download_verbs() { return {{"download", download}, {"cache", cache}}; }
