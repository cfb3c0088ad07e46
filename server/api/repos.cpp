// Creating, deleting, moving and listing repositories, and their settings.

#include <algorithm>
#include <charconv>
#include <set>

#include "server/api/common.h"
#include "server/api/info.h"

namespace pretrained::server {
namespace {

constexpr uint64_t kBodyLimit = 64 << 20;  // JavaScript sends first files along
constexpr uint64_t kDuplicateBytes = 256 << 20;
constexpr size_t kDuplicateFiles = 25'000;
constexpr int64_t kPageWithFiles = 50;

std::string type_field(const Json& body) {
  std::string type = optional_string_field(body, "type").value_or("model");
  if (!is_repo_type(type))
    throw HttpError(
        400, "",
        "field 'type': expected " + std::string(kRepoTypes) + ", got '" + printable(type) + "'");
  return type;
}

// `visibility` of today's clients, `private` of yesterday's; nothing where neither is there.
std::optional<bool> private_field(const Json& body) {
  auto visibility = optional_string_field(body, "visibility");
  // "protected" is a private repository whose page shows; there are no pages here.
  if (visibility && *visibility != "public" && *visibility != "private" &&
      *visibility != "protected")
    throw HttpError(
        400, "",
        "field 'visibility': expected public or private, got '" + printable(*visibility) + "'");
  if (visibility) return *visibility != "public";
  const Json* field = body.find("private");
  if (!field || field->is_null()) return std::nullopt;
  return bool_field(body, "private", false);
}

struct Name {
  std::string owner, name;  // owner "": the caller's
};

Name split_name(const std::string& full, const std::string& field) {
  size_t slash = full.find('/');
  if (slash == full.npos) return {"", full};
  if (full.find('/', slash + 1) != full.npos)
    throw HttpError(
        400, "", "field '" + field + "': expected namespace/name, got '" + printable(full) + "'");
  return {full.substr(0, slash), full.substr(slash + 1)};
}

Name name_fields(const Json& body) {
  Name name = split_name(string_field(body, "name"), "name");
  if (auto organization = optional_string_field(body, "organization")) name.owner = *organization;
  return name;
}

// The namespace, if the caller may create there: the same answer where it does not exist.
Account require_namespace(Call& call, const std::string& name, const std::string& type) {
  const Account& user = require_user(call);
  auto owner = name.empty() ? std::optional<Account>(user) : call.services.accounts.find(name);
  if (!owner || role_in(call.caller, *owner) < Role::write)
    throw HttpError(403, "",
                    "You may not create a " + type + " in the namespace " +
                        printable(name.empty() ? user.name : name));
  return *owner;
}

// A repository that a body names, with admin rights to it.
Repo require_administered(Call& call, const std::string& type, const Name& name) {
  const Account& user = require_user(call);
  auto repo =
      call.services.repos.find(type, name.owner.empty() ? user.name : name.owner, name.name);
  if (!repo || !may_see(call.caller, repo->access))
    throw HttpError(404, "RepoNotFound", "Repository not found");
  if (role_on(call.caller, repo->access, true) < Role::admin)
    throw HttpError(403, "", "This needs admin access to " + repo->full_name());
  return *repo;
}

Json::Object created(const Call& call, const Repo& repo) {
  return {{"url", repo_url(call, repo)}, {"name", repo.full_name()}, {"id", repo.uid}};
}

// Clients that asked for "exists is fine" still read where it is.
Response conflict(Call& call, const std::string& message, const std::string& type,
                  const std::string& owner, const std::string& name) {
  auto repo = call.services.repos.find(type, owner, name, true);
  if (!repo || !may_see(call.caller, repo->access)) throw HttpError(409, "", message);
  Json::Object body = created(call, *repo);
  body["error"] = message;
  Response response = json_response(body, 409);
  response.headers.set("X-Error-Message", message);
  return response;
}

std::vector<FileChange> first_files(const Json& body) {
  std::vector<FileChange> files;
  if (auto license = optional_string_field(body, "license")) {
    for (char c : *license)
      if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.')
        throw HttpError(400, "", "field 'license': expected an identifier such as apache-2.0");
    files.push_back({FileChange::Kind::add, "README.md", "---\nlicense: " + *license + "\n---\n"});
  }
  const Json* field = body.find("files");
  if (!field || field->is_null()) return files;
  auto list = field->get_if<Json::Array>();
  if (!list)
    throw HttpError(400, "", "field 'files': expected a list, got " + std::string(field->kind()));
  for (const auto& file : *list) {
    std::string content = string_field(file, "content");
    if (optional_string_field(file, "encoding").value_or("utf-8") == "base64") {
      auto decoded = decode_base64(content);
      if (!decoded) throw HttpError(400, "", "field 'content': not valid base64");
      content = std::move(*decoded);
    }
    if (content.size() > (10 << 20))
      throw HttpError(413, "", "field 'files': more than 10 MiB in one; upload it as LFS");
    files.push_back({FileChange::Kind::add, string_field(file, "path"), std::move(content)});
  }
  return files;
}

Response create(Call& call) {
  require_user(call);  // before it costs anything
  Json body = read_json(call, kBodyLimit);
  std::string type = type_field(body);
  Name name = name_fields(body);
  Account owner = require_namespace(call, name.owner, type);
  auto sdk = type == "space" ? optional_string_field(body, "sdk") : std::nullopt;
  try {
    Repo repo =
        call.services.repos.create(call.caller, type, owner, name.name,
                                   private_field(body).value_or(false), sdk, first_files(body));
    return json_response(created(call, repo));
  } catch (const ConflictError& e) {
    return conflict(call, e.what(), type, owner.name, name.name);
  }
}

Response remove(Call& call) {
  Json body = read_json(call);
  Repo repo = require_administered(call, type_field(body), name_fields(body));
  call.services.repos.remove(repo);
  call.services.accounts.audit(call.caller, "repo.delete",
                               repo.access.type + " " + repo.full_name());
  return json_response(Json::Object{});
}

Response move(Call& call) {
  Json body = read_json(call);
  std::string type = type_field(body);
  Repo repo =
      require_administered(call, type, split_name(string_field(body, "fromRepo"), "fromRepo"));
  Name to = split_name(string_field(body, "toRepo"), "toRepo");
  Account owner = require_namespace(call, to.owner, type);
  call.services.repos.move(repo, owner, to.name);
  call.services.accounts.audit(call.caller, "repo.move", repo.access.type + " " + repo.full_name(),
                               owner.name + "/" + to.name);
  return json_response(Json::Object{
      {"url", call.request.base_url + "/" + web_prefix(type) + owner.name + "/" + to.name}});
}

Response settings(Call& call) {
  Repo repo = require_repo(call, Role::admin);
  Json body = read_json(call);
  Json::Object answer;
  std::string changes;
  auto is_private = private_field(body);
  const Json* gated = body.find("gated");
  std::string gate;
  if (gated && !gated->is_null() && !(*gated == Json(false))) gate = string_field(body, "gated");
  if (!gate.empty() && gate != "auto" && gate != "manual")
    throw HttpError(400, "", "field 'gated': expected \"auto\", \"manual\" or false");
  if (is_private) {
    call.services.repos.set_visibility(repo, *is_private);
    answer["private"] = *is_private;
    changes += *is_private ? "private " : "public ";
  }
  if (gated && !gated->is_null()) {
    call.services.repos.set_gated(repo, gate);
    answer["gated"] = *gated;
    changes += "gated=" + (gate.empty() ? std::string("false") : gate);
  }
  call.services.accounts.audit(call.caller, "repo.settings",
                               repo.access.type + " " + repo.full_name(), changes);
  return json_response(answer);
}

// ---- duplicate
// ------------------------------------------------------------------------------------

// The files of main in one commit; large objects are shared, not copied.
void copy_files(Call& call, const Repo& from, const Repo& to) {
  auto& git = call.services.git;
  Oid head = require_revision(call, from, "HEAD");
  auto view = git.open(from.access.id);
  NewCommit commit;
  commit.title = "Duplicate from " + from.full_name();
  commit.author = commit_author(call.caller);
  std::vector<std::string> objects;
  uint64_t bytes = 0;
  view->list(head, "", true, "", [&](const TreeEntry& entry) {
    if (entry.kind != TreeEntry::Kind::file) return true;
    bytes += entry.size;
    if (bytes > kDuplicateBytes || commit.changes.size() == kDuplicateFiles)
      throw HttpError(413, "", from.full_name() + " is too large to be duplicated: clone and push");
    auto pointer = view->pointer(entry);
    if (pointer && call.services.content.share(from.access.id, to.access.id, pointer->sha256))
      objects.push_back(pointer->sha256);
    commit.changes.push_back({FileChange::Kind::add, entry.path, view->read_blob(entry.oid)});
    return true;
  });
  Oid main = require_revision(call, to, "HEAD");
  auto stored = git.write_commit(to.access.id, {main}, commit);
  if (!stored) return;
  call.services.repos.publish(call.caller, to, {*stored},
                              {{"refs/heads/main", main, stored->commit}}, objects);
}

Response duplicate(Call& call) {
  Repo from = require_repo(call, Role::read);
  Json body = read_json(call);
  const std::string& type = from.access.type;
  Name name = split_name(string_field(body, "repository"), "repository");
  Account owner = require_namespace(call, name.owner, type);
  // A copy has no gate of its own, so it is not public by accident.
  bool closed = from.access.is_private || !from.access.gated.empty();
  try {
    Repo to = call.services.repos.create(call.caller, type, owner, name.name,
                                         private_field(body).value_or(closed), from.sdk);
    try {
      copy_files(call, from, to);
    } catch (...) {
      call.services.repos.remove(to);
      throw;
    }
    Json::Object answer = created(call, to);
    answer["filesCopyPending"] = false;
    return json_response(answer);
  } catch (const ConflictError& e) {
    return conflict(call, e.what(), type, owner.name, name.name);
  }
}

Response may_read(Call& call) {
  require_repo(call, Role::read);
  return json_response(Json::Object{});
}
Response may_write(Call& call) {
  require_repo(call, Role::write);
  return json_response(Json::Object{});
}

// ---- lists
// ------------------------------------------------------------------------------------------

// "6B" is 6·10⁹.
int64_t read_count(const std::string& text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string unit(end, size_t(text.data() + text.size() - end));
  double factor = unit == ""    ? 1
                  : unit == "K" ? 1e3
                  : unit == "M" ? 1e6
                  : unit == "B" ? 1e9
                  : unit == "T" ? 1e12
                                : 0;
  if (error != std::errc() || factor == 0 || !(value >= 0) || value * factor > 9e18)
    throw HttpError(400, "", "num_parameters '" + printable(text) + "': expected e.g. 500M or 6B");
  return int64_t(value * factor);
}

// "min:6B,max:128B"
void read_parameter_bounds(const std::string& text, ListQuery& query) {
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find(',', at), text.size());
    std::string bound = text.substr(at, end - at);
    at = end + 1;
    if (bound.starts_with("min:"))
      query.min_parameters = read_count(bound.substr(4));
    else if (bound.starts_with("max:"))
      query.max_parameters = read_count(bound.substr(4));
    else
      throw HttpError(400, "", "num_parameters: expected min:…,max:…");
  }
}

int64_t read_limit(const Request& request, int64_t most) {
  auto text = request.parameter("limit");
  if (!text) return most;
  int64_t limit = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), limit);
  if (error != std::errc() || end != text->data() + text->size() || limit < 0)
    throw HttpError(400, "", "limit '" + printable(*text) + "': expected a number");
  return std::min(limit, most);
}

// A parameter that is not heeded would give wrong items.
void check_parameters(const Request& request, const std::string& type) {
  static const std::set<std::string> known = {
      "author",    "search",         "filter", "tags",   "library", "pipeline_tag",
      "gated",     "num_parameters", "sort",   "limit",  "full",    "cardData",
      "direction", "config",         "cursor", "expand", "expand[]"};
  static const std::set<std::string> of_spaces = {"models", "datasets", "linked"};
  for (const auto& [name, value] : request.query) {
    if (name == "inference" || name == "inference_provider" || name == "apps")
      throw HttpError(400, "", name + ": this hub runs no models and does not know what does");
    if (!known.contains(name) && !(type == "space" && of_spaces.contains(name)))
      throw HttpError(400, "", "'" + printable(name) + "' is no parameter of lists");
  }
}

std::vector<std::string> split_all(const Request& request,
                                   std::initializer_list<const char*> names) {
  std::vector<std::string> all;
  for (const char* name : names)
    for (const auto& text : request.parameters(name))
      for (size_t at = 0; at < text.size();) {
        size_t end = std::min(text.find(',', at), text.size());
        if (end > at) all.push_back(text.substr(at, end - at));
        at = end + 1;
      }
  return all;
}

ListQuery read_query(Call& call) {
  const Request& request = call.request;
  ListQuery query;
  query.type = call.captures.at("type");
  query.type.pop_back();
  check_parameters(request, query.type);
  query.author = request.parameter("author");
  for (const auto& words : request.parameters("search"))
    query.search = query.search ? *query.search + " " + words : words;
  query.pipeline_tag = request.parameter("pipeline_tag");
  query.gated = request.parameter("gated");
  query.filters = split_all(request, {"filter", "tags", "library"});
  query.models = split_all(request, {"models"});
  query.datasets = split_all(request, {"datasets"});
  query.linked = request.flag("linked");
  if (auto bounds = request.parameter("num_parameters")) read_parameter_bounds(*bounds, query);
  query.sort = request.parameter("sort").value_or("trendingScore");
  std::string direction = request.parameter("direction").value_or("-1");
  if (direction != "-1" && direction != "1")
    throw HttpError(400, "", "direction '" + printable(direction) + "': expected -1 or 1");
  query.descending = direction == "-1";
  query.limit = read_limit(request, 1000);
  query.cursor = request.parameter("cursor").value_or("");
  return query;
}

// Without `expand`: the long ones only on demand, as everywhere.
Json::Object listed_facts(Call& call, const Repo& repo) {
  const Request& request = call.request;
  bool full = request.flag("full");
  Json::Object facts = repo_facts(repo);
  for (const char* name : {"cardData", "config", "safetensors", "model-index", "transformersInfo"})
    if (!full && !request.flag(name)) facts.erase(name);
  if (full)
    if (auto head = call.services.git.resolve(repo.access.id, "HEAD")) facts["sha"] = *head;
  return facts;
}

Response list(Call& call) {
  ListQuery query = read_query(call);
  auto expand = read_expand(call.request, query.type);
  // Each repository's files are read.
  if (expand.contains("siblings")) query.limit = std::min(query.limit, kPageWithFiles);
  std::string next;
  Json::Array page;
  for (const auto& repo : call.services.repos.list(call.caller, query, next)) {
    page.push_back(expand.empty() ? listed_facts(call, repo)
                                  : expanded_facts(call.services, repo, "HEAD", expand));
  }
  Response response = json_response(page);
  if (!next.empty()) add_next_link(call, response, {{"cursor", next}});
  return response;
}

}  // namespace

std::vector<Route<ApiHandler>> repo_routes() {
  const std::string repo = kRepoPattern;
  return {
      {"POST", "/api/repos/create", create},
      {"DELETE", "/api/repos/delete", remove},
      {"POST", "/api/repos/move", move},
      {"PUT", repo + "/settings", settings},
      {"POST", repo + "/duplicate", duplicate},
      {"GET", repo + "/auth-check", may_read},
      {"GET", repo + "/auth-check/write", may_write},
      {"GET", "/api/{type:models|datasets|spaces|kernels}", list},
  };
}

}  // namespace pretrained::server
