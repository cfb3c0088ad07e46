#include "server/api/info.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

namespace pretrained::server {
namespace {

// As huggingface_hub's Expand…Property_T have them, with what its older versions and the JavaScript
// client ask for.
const std::set<std::string> kExpand = {
    "author", "cardData",  "createdAt",    "disabled",      "downloads",   "downloadsAllTime",
    "gated",  "gitalyUid", "lastModified", "likes",         "private",     "resourceGroup",
    "sha",    "siblings",  "tags",         "trendingScore", "usedStorage", "xetEnabled"};
const std::map<std::string, std::set<std::string>> kExpandOfType = {
    {"model",
     {"baseModels", "childrenModelCount", "config", "evalResults", "gguf", "inference",
      "inferenceProviderMapping", "library_name", "mask_token", "model-index", "pipeline_tag",
      "safetensors", "securityRepoStatus", "spaces", "transformersInfo", "widgetData"}},
    {"dataset", {"citation", "description", "mainSize", "paperswithcode_id"}},
    {"space", {"datasets", "models", "region", "runtime", "sdk", "subdomain"}},
    {"kernel", {}}};

const Json* member(const Json& json, const char* first, const char* second) {
  const Json* found = json.find(first);
  return found ? found->find(second) : nullptr;
}

// Which auto class loads it: "ResNetForImageClassification" is of AutoModelForImageClassification.
Json transformers_info(const Repo& repo) {
  const Json* field = repo.config.find("architectures");
  const auto* list = field ? field->get_if<Json::Array>() : nullptr;
  const auto* name = list && !list->empty() ? (*list)[0].get_if<std::string>() : nullptr;
  if (!name || repo.library_name != "transformers") return nullptr;
  size_t purpose = name->rfind("For");
  Json::Object info{
      {"auto_model", "AutoModel" + (purpose == name->npos ? "" : name->substr(purpose))}};
  if (repo.pipeline_tag) info["pipeline_tag"] = *repo.pipeline_tag;
  if (repo.config.find("tokenizer_config")) info["processor"] = "AutoTokenizer";
  return info;
}

Json security_status() {
  return Json::Object{{"scansDone", false}, {"filesWithIssues", Json::Array{}}};
}

// What only `expand` gives, of those that the hub can know.
void add_rare_facts(const Repo& repo, Json::Object& facts) {
  auto add = [&](const char* name, const Json* value) {
    if (value && !value->is_null()) facts[name] = *value;
  };
  const std::string& type = repo.access.type;
  if (type == "model") {
    facts["inferenceProviderMapping"] = Json::Array{};
    facts["securityRepoStatus"] = security_status();
    add("mask_token", member(repo.config, "tokenizer_config", "mask_token"));
    add("widgetData", repo.card.find("widget"));
  }
  if (type == "dataset") add("paperswithcode_id", repo.card.find("paperswithcode_id"));
  if (type == "space")
    for (const char* name : {"datasets", "models"}) add(name, repo.card.find(name));
}

Json siblings_json(Services& services, const Repo& repo, const Oid& commit, bool blobs);

}  // namespace

std::set<std::string> read_expand(const Request& request, const std::string& type) {
  std::set<std::string> expand;
  for (const char* parameter : {"expand", "expand[]"})
    for (auto& name : request.parameters(parameter)) {
      if (!kExpand.contains(name) && !kExpandOfType.at(type).contains(name))
        throw HttpError(400, "", "expand '" + printable(name) + "': no property of a " + type);
      expand.insert(name);
    }
  return expand;
}

Json::Object expanded_facts(Services& services, const Repo& repo, const std::string& revision,
                            const std::set<std::string>& expand, bool blobs) {
  Json::Object facts = repo_facts(repo);
  add_rare_facts(repo, facts);
  std::erase_if(facts, [&](const auto& fact) {
    return fact.first != "_id" && fact.first != "id" && !expand.contains(fact.first);
  });
  bool siblings = expand.contains("siblings");
  if (!siblings && !expand.contains("sha")) return facts;
  auto commit = services.git.resolve(repo.access.id, revision);
  if (commit && expand.contains("sha")) facts["sha"] = *commit;
  if (siblings)
    facts["siblings"] =
        commit ? siblings_json(services, repo, *commit, blobs) : Json(Json::Array{});
  return facts;
}

Json::Object repo_facts(const Repo& repo) {
  Json::Object facts{
      {"_id", repo.uid},
      {"id", repo.full_name()},
      {"author", repo.access.owner_name},
      {"lastModified", iso8601(repo.updated_at)},
      {"createdAt", iso8601(repo.created_at)},
      {"private", repo.access.is_private},
      {"gated", repo.access.gated.empty() ? Json(false) : Json(repo.access.gated)},
      {"disabled", repo.access.disabled},
      {"downloads", repo.downloads},
      {"downloadsAllTime", repo.downloads},
      {"likes", repo.likes},
      {"trendingScore", repo.likes},
      {"tags", repo.tags},
      {"usedStorage", repo.used_bytes},
      {"xetEnabled", true},
  };
  if (repo.access.type == "model") facts["modelId"] = repo.full_name();
  if (repo.access.type == "model") facts["spaces"] = Json::Array{};
  if (repo.pipeline_tag) facts["pipeline_tag"] = *repo.pipeline_tag;
  if (repo.library_name) facts["library_name"] = *repo.library_name;
  if (repo.sdk) facts["sdk"] = *repo.sdk;
  if (!repo.card.is_null()) facts["cardData"] = repo.card;
  if (!repo.config.is_null()) facts["config"] = repo.config;
  if (!repo.weights.is_null()) facts["safetensors"] = repo.weights;
  if (const Json* index = repo.card.find("model-index")) facts["model-index"] = *index;
  if (Json info = transformers_info(repo); !info.is_null()) facts["transformersInfo"] = info;
  return facts;
}

std::vector<FileFacts> file_facts(Services& services, const Repo& repo, GitView& view,
                                  const std::vector<TreeEntry>& entries) {
  std::vector<FileFacts> facts;
  std::vector<std::string> wanted;
  for (const auto& entry : entries) {
    facts.push_back({entry, {}, {}});
    if (entry.kind != TreeEntry::Kind::file) continue;
    facts.back().pointer = view.pointer(entry);
    if (facts.back().pointer) wanted.push_back(facts.back().pointer->sha256);
  }
  if (wanted.empty()) return facts;
  auto objects = services.content.objects(repo.access.id, wanted);
  size_t next = 0;
  for (auto& file : facts)
    if (file.pointer) file.object = objects[next++];
  return facts;
}

namespace {

constexpr size_t kPage = 1000, kSiblings = 100'000;

// ---- entries ------------------------------------------------------------------------------------

Json::Object lfs_json(const LfsPointer& pointer, const char* hash_name) {
  return {{hash_name, pointer.sha256},
          {"size", int64_t(pointer.size)},
          {"pointerSize", int64_t(pointer.text().size())}};
}

std::string folder_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? "" : path.substr(0, slash);
}

// Last commits of paths, one folder at a time.
class LastCommits {
 public:
  LastCommits(GitView& view, const Oid& commit) : view_(view), commit_(commit) {}

  Json of(const std::string& path) {
    std::string folder = folder_of(path);
    auto known = folders_.find(folder);
    if (known == folders_.end()) {
      std::map<std::string, CommitInfo> commits;
      for (auto& [name, info] : view_.last_commits(commit_, folder)) commits[name] = info;
      known = folders_.emplace(folder, std::move(commits)).first;
    }
    auto found = known->second.find(folder.empty() ? path : path.substr(folder.size() + 1));
    if (found == known->second.end()) return nullptr;
    const CommitInfo& info = found->second;
    return Json::Object{{"id", info.oid}, {"title", info.title}, {"date", iso8601(info.time_ms)}};
  }

 private:
  GitView& view_;
  Oid commit_;
  std::map<std::string, std::map<std::string, CommitInfo>> folders_;
};

Json entries_json(Call& call, const Repo& repo, GitView& view, const Oid& commit,
                  const std::vector<TreeEntry>& entries, bool expand) {
  LastCommits last_commits(view, commit);
  Json::Array result;
  for (const auto& file : file_facts(call.services, repo, view, entries)) {
    bool folder = file.entry.kind == TreeEntry::Kind::folder;
    Json::Object item{{"type", folder ? "directory" : "file"},
                      {"path", file.entry.path},
                      {"oid", file.entry.oid},
                      {"size", folder ? int64_t{0} : int64_t(file.size())}};
    if (file.pointer) item["lfs"] = lfs_json(*file.pointer, "oid");
    if (file.object) item["xetHash"] = file.object->xet_hash.hex();
    if (expand) {
      if (Json last = last_commits.of(file.entry.path); !last.is_null()) item["lastCommit"] = last;
      if (!folder)
        item["securityFileStatus"] = Json::Object{
            {"status", "unscanned"}, {"avScan", nullptr}, {"pickleImportScan", nullptr}};
    }
    result.push_back(std::move(item));
  }
  return result;
}

// ---- info ---------------------------------------------------------------------------------------

Json siblings_json(Services& services, const Repo& repo, const Oid& commit, bool blobs) {
  auto view = services.git.open(repo.access.id);
  std::vector<TreeEntry> files;
  view->list(commit, "", true, "", [&](const TreeEntry& entry) {
    if (entry.kind == TreeEntry::Kind::file || entry.kind == TreeEntry::Kind::link)
      files.push_back(entry);
    return files.size() < kSiblings;
  });
  Json::Array siblings;
  if (!blobs) {
    for (const auto& file : files) siblings.push_back(Json::Object{{"rfilename", file.path}});
    return siblings;
  }
  for (const auto& file : file_facts(services, repo, *view, files)) {
    Json::Object item{
        {"rfilename", file.entry.path}, {"size", int64_t(file.size())}, {"blobId", file.entry.oid}};
    if (file.pointer) item["lfs"] = lfs_json(*file.pointer, "sha256");
    siblings.push_back(std::move(item));
  }
  return siblings;
}

Response info(Call& call) {
  Repo repo = require_visible_repo(call);
  auto revision = call.captures.named.find("revision");
  std::optional<Oid> commit = revision == call.captures.named.end()
                                  ? call.services.git.resolve(repo.access.id, "HEAD")
                                  : std::optional(require_revision(call, repo, revision->second));

  auto expand = read_expand(call.request, repo.access.type);
  bool blobs = call.request.flag("blobs");
  if (!expand.empty())
    return json_response(
        expanded_facts(call.services, repo, commit.value_or("HEAD"), expand, blobs));

  Json::Object facts = repo_facts(repo);
  for (const char* only_expanded : {"downloadsAllTime", "trendingScore", "xetEnabled"})
    facts.erase(only_expanded);
  if (commit) facts["sha"] = *commit;
  facts["siblings"] =
      commit ? siblings_json(call.services, repo, *commit, blobs) : Json(Json::Array{});
  if (call.request.flag("securityStatus")) facts["securityRepoStatus"] = security_status();
  return json_response(std::move(facts));
}

// ---- tree ---------------------------------------------------------------------------------------

size_t page_size(Call& call) {
  auto text = call.request.parameter("limit");
  if (!text) return kPage;
  size_t limit = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), limit);
  if (error != std::errc() || end != text->data() + text->size() || limit == 0)
    throw HttpError(400, "", "limit: expected a number above 0, got '" + printable(*text) + "'");
  return std::min(limit, kPage);
}

Response tree(Call& call) {
  Repo repo = require_repo(call, Role::read);
  auto at = require_revision_and_path(call, repo, call.captures.rest);
  while (at.path.ends_with("/")) at.path.pop_back();
  auto view = call.services.git.open(repo.access.id);
  auto folder = view->entry(at.commit, at.path);
  if (!folder || folder->kind != TreeEntry::Kind::folder)
    throw_entry_not_found(at.path, at.revision, at.commit);

  size_t limit = page_size(call);
  std::vector<TreeEntry> entries;
  bool more = false;
  view->list(at.commit, at.path, call.request.flag("recursive"),
             call.request.parameter("cursor").value_or(""), [&](const TreeEntry& entry) {
               more = entries.size() == limit;
               if (!more && entry.kind != TreeEntry::Kind::submodule) entries.push_back(entry);
               return !more;
             });
  Response response = json_response(
      entries_json(call, repo, *view, at.commit, entries, call.request.flag("expand")));
  response.headers.set("X-Repo-Commit", at.commit);
  if (more) add_next_link(call, response, {{"cursor", entries.back().path}});
  return response;
}

// ---- paths-info ---------------------------------------------------------------------------------

struct PathsQuery {
  std::vector<std::string> paths;
  bool expand = false;
};

PathsQuery read_paths_query(Call& call) {
  PathsQuery query;
  constexpr uint64_t limit = 4 << 20;
  if (call.request.headers.get("Content-Type").starts_with("application/json")) {
    Json body = read_json(call, limit);
    query.expand = bool_field(body, "expand", false);
    const Json* paths = body.find("paths");
    const auto* list = paths ? paths->get_if<Json::Array>() : nullptr;
    if (!list) throw HttpError(400, "", "field 'paths': expected a list of strings");
    for (const auto& path : *list) {
      const auto* text = path.get_if<std::string>();
      if (!text) throw HttpError(400, "", "field 'paths': expected a list of strings");
      query.paths.push_back(*text);
    }
  } else {
    for (auto& [name, value] : read_form(call, limit)) {
      if (name == "paths" || name == "paths[]") query.paths.push_back(value);
      if (name == "expand") query.expand = value == "true" || value == "True" || value == "1";
    }
  }
  if (query.paths.size() > 10 * kPage)
    throw HttpError(400, "", "paths: more than " + std::to_string(10 * kPage));
  return query;
}

Response paths_info(Call& call) {
  Repo repo = require_repo(call, Role::read);
  Oid commit = require_revision(call, repo, call.captures.at("revision"));
  PathsQuery query = read_paths_query(call);
  auto view = call.services.git.open(repo.access.id);
  std::vector<TreeEntry> entries;
  for (auto& path : query.paths) {
    while (path.ends_with("/")) path.pop_back();
    if (path.empty()) continue;
    auto entry = view->entry(commit, path);
    if (entry && entry->kind != TreeEntry::Kind::submodule) entries.push_back(*entry);
  }
  Response response = json_response(entries_json(call, repo, *view, commit, entries,
                                                 query.expand || call.request.flag("expand")));
  response.headers.set("X-Repo-Commit", commit);
  return response;
}

// ---- weights ------------------------------------------------------------------------------------

// Every header of a sharded model in one answer.
Response safetensors_metadata(Call& call) {
  Repo repo = require_repo(call, Role::read);
  std::string index = joined(call.captures.rest);
  Oid commit = require_revision(call, repo, "HEAD");
  auto view = call.services.git.open(repo.access.id);
  if (!view->entry(commit, index)) throw_entry_not_found(index, "main", commit);
  Response response;
  response.headers.set("Content-Type", "application/json; charset=utf-8");
  response.headers.set("X-Repo-Commit", commit);
  response.body =
      read_safetensors_headers(index, *view, commit, call.services.content, repo.access.id);
  return response;
}

}  // namespace

std::vector<Route<ApiHandler>> info_routes() {
  const std::string repo = kRepoPattern;
  return {
      {"GET", repo, info},
      {"GET", repo + "/revision/{revision}", info},
      {"GET", repo + "/tree/{path...}", tree},
      {"POST", repo + "/paths-info/{revision}", paths_info},
      {"GET", repo + "/safetensors-metadata/{path...}", safetensors_metadata},
  };
}

}  // namespace pretrained::server
