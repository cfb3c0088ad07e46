#include <algorithm>
#include <charconv>

#include "server/api/changes.h"

namespace pretrained::server {
namespace {

uint64_t number_parameter(Call& call, const char* name, uint64_t otherwise, uint64_t most) {
  auto text = call.request.parameter(name);
  if (!text) return otherwise;
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size())
    throw HttpError(400, "",
                    std::string(name) + ": expected a number, got '" + printable(*text) + "'");
  return std::min(number, most);
}

// ---- commits ------------------------------------------------------------------------------------

std::string html(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '&')
      result += "&amp;";
    else if (c == '"')
      result += "&quot;";
    else
      result += c;
  }
  return result;
}

Json commit_json(const CommitInfo& commit, bool formatted) {
  Json::Object item{
      {"id", commit.oid},
      {"title", commit.title},
      {"message", commit.message},
      {"authors", Json::Array{Json::Object{{"user", commit.author.name}, {"avatar", ""}}}},
      {"date", iso8601(commit.time_ms)}};
  Json::Array parents;
  for (const auto& parent : commit.parents) parents.push_back(parent);
  item["parents"] = std::move(parents);
  if (formatted)
    item["formatted"] =
        Json::Object{{"title", html(commit.title)}, {"message", html(commit.message)}};
  return item;
}

Response commits(Call& call) {
  Repo repo = require_repo(call, Role::read);
  auto at = require_revision_and_path(call, repo, call.captures.rest);
  if (!at.path.empty())
    throw HttpError(404, "RevisionNotFound",
                    "Invalid rev id: " + printable(joined(call.captures.rest)));
  uint64_t limit = std::max<uint64_t>(1, number_parameter(call, "limit", 50, 1000));
  uint64_t page = number_parameter(call, "p", 0, 1'000'000);
  auto view = call.services.git.open(repo.access.id);
  uint64_t total = view->count_commits(at.commit), first = page * limit, seen = 0;
  bool formatted = false;
  for (const char* name : {"expand", "expand[]"})
    for (const auto& key : call.request.parameters(name))
      formatted = formatted || key == "formatted";

  Json::Array list;
  if (first < total)
    view->log(at.commit, [&](const CommitInfo& commit) {
      if (seen++ >= first) list.push_back(commit_json(commit, formatted));
      return list.size() < limit;
    });
  Response response = json_response(std::move(list));
  response.headers.set("X-Total-Count", std::to_string(total));
  if (first + limit < total)
    add_next_link(call, response,
                  {{"p", std::to_string(page + 1)}, {"limit", std::to_string(limit)}});
  return response;
}

Response compare(Call& call) {
  Repo repo = require_repo(call, Role::read);
  std::string spec = joined(call.captures.rest);
  bool from_base = spec.find("...") != spec.npos;  // what b did since it left a
  size_t dots = spec.find(from_base ? "..." : "..");
  if (dots == spec.npos)
    throw HttpError(400, "", "compare: expected a..b, got '" + printable(spec) + "'");
  Oid from = require_revision(call, repo, spec.substr(0, dots));
  Oid to = require_revision(call, repo, spec.substr(dots + (from_base ? 3 : 2)));
  auto view = call.services.git.open(repo.access.id);
  if (from_base) from = view->merge_base(from, to).value_or(kNoOid);
  Response response;
  response.headers.set("Content-Type", "text/plain; charset=utf-8");
  response.body = view->diff(from, to);
  return response;
}

// ---- references ---------------------------------------------------------------------------------

Response refs(Call& call) {
  Repo repo = require_repo(call, Role::read);
  auto& git = call.services.git;
  Json::Array branches, converts, tags, pull_requests;
  for (const auto& ref : git.refs(repo.access.id)) {
    auto add = [&](Json::Array& list, std::string_view prefix) {
      if (!ref.name.starts_with(prefix)) return false;
      bool tag = prefix == "refs/tags/";
      Oid commit = tag ? git.resolve(repo.access.id, ref.name).value_or(ref.target) : ref.target;
      std::string name = prefix == "refs/pr/" ? ref.name : ref.name.substr(prefix.size());
      list.push_back(Json::Object{{"name", name}, {"ref", ref.name}, {"targetCommit", commit}});
      return true;
    };
    add(branches, "refs/heads/") || add(tags, "refs/tags/") || add(converts, "refs/convert/") ||
        add(pull_requests, "refs/pr/");
  }
  Json::Object answer{{"branches", std::move(branches)},
                      {"converts", std::move(converts)},
                      {"tags", std::move(tags)}};
  if (call.request.flag("include_prs") || call.request.flag("include_pull_requests"))
    answer["pullRequests"] = std::move(pull_requests);
  return json_response(std::move(answer));
}

Oid target_of(Call& call, const Repo& repo, const std::string& reference) {
  for (const auto& ref : call.services.git.refs(repo.access.id))
    if (ref.name == reference) return ref.target;
  return kNoOid;
}

// Moves one reference; 409 where it is there already and `from` says that it is not.
void move(Call& call, const Repo& repo, const RefUpdate& update,
          const std::vector<GitStore::Stored>& packs = {}) {
  try {
    call.services.repos.publish(call.caller, repo, packs, {update}, {});
  } catch (const RefConflict&) {
    if (update.from != kNoOid) throw;
    throw HttpError(409, "", "Reference already exists: " + update.name);
  }
}

// A first commit without a parent. It keeps the LFS rules of `like`, so that uploads go on as
// usual.
GitStore::Stored empty_commit(Call& call, const Repo& repo, const std::optional<Oid>& like) {
  NewCommit commit;
  commit.title = "initial commit";
  commit.author = commit_author(call.caller);
  FileChange attributes{FileChange::Kind::add, ".gitattributes", ""};
  auto view = call.services.git.open(repo.access.id);
  auto entry = like ? view->entry(*like, attributes.path) : std::nullopt;
  if (entry && entry->kind == TreeEntry::Kind::file)
    attributes.content = view->read_blob(entry->oid);
  commit.changes.push_back(std::move(attributes));
  return call.services.git.write_commit(repo.access.id, {}, commit).value();
}

Response create_branch(Call& call) {
  Repo repo = require_repo(call, Role::write);
  std::string name = joined(call.captures.rest);
  if (name.starts_with("refs/heads/")) name = name.substr(11);
  RefUpdate update{"refs/heads/" + name, kNoOid, {}};
  if (name.starts_with("refs/") || name == "HEAD" || is_commit_id(name))
    throw HttpError(400, "", "Invalid branch name '" + printable(name) + "'");
  check_reference_name(update.name);

  Json body = read_json(call);
  std::string start = optional_string_field(body, "startingPoint").value_or("HEAD");
  if (bool_field(body, "overwrite", false)) update.from = "*";
  if (update.from == kNoOid && target_of(call, repo, update.name) != kNoOid)
    throw HttpError(409, "", "Reference already exists: " + update.name);
  if (bool_field(body, "emptyBranch", false)) {
    auto stored = empty_commit(call, repo, call.services.git.resolve(repo.access.id, start));
    update.to = stored.commit;
    move(call, repo, update, {stored});
  } else {
    update.to = require_revision(call, repo, start);
    move(call, repo, update);
  }
  return json_response(Json::Object{{"ref", update.name}, {"targetCommit", update.to}});
}

Response delete_reference(Call& call, const Repo& repo, const std::string& reference) {
  Oid target = target_of(call, repo, reference);
  if (target == kNoOid)
    throw HttpError(404, "RevisionNotFound", "Invalid rev id: " + printable(reference));
  move(call, repo, {reference, target, kNoOid});
  return json_response(Json::Object{});
}

Response delete_branch(Call& call) {
  Repo repo = require_repo(call, Role::write);
  std::string name = joined(call.captures.rest);
  if (name.starts_with("refs/heads/")) name = name.substr(11);
  if (name == "main") throw HttpError(403, "", "The branch 'main' can not be deleted");
  return delete_reference(call, repo, "refs/heads/" + name);
}

Response create_tag(Call& call) {
  Repo repo = require_repo(call, Role::write);
  Oid target = require_revision(call, repo, joined(call.captures.rest));
  Json body = read_json(call);
  std::string name = string_field(body, "tag");
  std::string message = optional_string_field(body, "message").value_or("");
  RefUpdate update{"refs/tags/" + name, kNoOid, target};
  check_reference_name(update.name);
  if (is_commit_id(name)) throw HttpError(400, "", "A tag can not look like a commit id");
  if (target_of(call, repo, update.name) != kNoOid)
    throw HttpError(409, "", "Reference already exists: " + update.name);
  if (message.empty()) {
    move(call, repo, update);
  } else {
    auto stored = call.services.git.write_tag(repo.access.id, target, name, message,
                                              commit_author(call.caller));
    update.to = stored.commit;
    move(call, repo, update, {stored});
  }
  return json_response(Json::Object{{"ref", update.name}, {"targetCommit", target}});
}

Response delete_tag(Call& call) {
  Repo repo = require_repo(call, Role::write);
  return delete_reference(call, repo, "refs/tags/" + joined(call.captures.rest));
}

Response super_squash(Call& call) {
  Repo repo = require_repo(call, Role::write);
  Branch branch = require_branch(call, repo, joined(call.captures.rest));
  if (branch.head == kNoOid) throw HttpError(400, "", "There is nothing to squash");
  Json body = read_json(call);
  NewCommit commit;
  commit.title = optional_string_field(body, "message").value_or("");
  if (commit.title.empty())
    commit.title = "Super-squash branch '" + joined(call.captures.rest) + "'";
  if (size_t end = commit.title.find('\n'); end != std::string::npos) {
    commit.message = commit.title.substr(
        std::min(commit.title.find_first_not_of('\n', end), commit.title.size()));
    commit.title.resize(end);
  }
  commit.author = commit_author(call.caller);
  auto stored = call.services.git.write_squash(repo.access.id, branch.head, commit);
  move(call, repo, {branch.reference, branch.head, stored.commit}, {stored});
  return json_response(Json::Object{{"commitOid", stored.commit}});
}

}  // namespace

std::vector<Route<ApiHandler>> history_routes() {
  const std::string repo = kRepoPattern;
  return {
      {"GET", repo + "/commits/{revision...}", commits},
      {"GET", repo + "/refs", refs},
      {"GET", repo + "/compare/{spec...}", compare},
      {"POST", repo + "/branch/{branch...}", create_branch},
      {"DELETE", repo + "/branch/{branch...}", delete_branch},
      {"POST", repo + "/tag/{revision...}", create_tag},
      {"DELETE", repo + "/tag/{tag...}", delete_tag},
      {"POST", repo + "/super-squash/{branch...}", super_squash},
  };
}

}  // namespace pretrained::server
