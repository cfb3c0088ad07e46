// HubClient's calls as verbs: hub_tool create_repo ORG/NAME type=dataset private=1.
#include <iostream>

#include "hub_tool.h"
#include "pretrained/hub/client.h"

using namespace pretrained;
using hub::HubClient;
using hub::Repo;

namespace {

Repo repo(const Call& call) {
  return {call.words.at(0), hub::parse_repo_type(call.option("type", "model"))};
}

Json strings(const std::vector<std::string>& list) { return Json::Array(list.begin(), list.end()); }

Json repo_json(const hub::RepoInfo& info) {
  return Json::Object{{"id", info.id},
                      {"sha", info.sha},
                      {"private", info.private_},
                      {"gated", info.gated},
                      {"tags", strings(info.tags)},
                      {"likes", info.likes},
                      {"downloads", info.downloads},
                      {"pipeline_tag", info.pipeline_tag},
                      {"library_name", info.library_name},
                      {"last_modified", info.last_modified}};
}

Json files_json(const std::vector<hub::RemoteFile>& files) {
  Json::Array list;
  for (auto& file : files)
    list.push_back(Json::Object{{"path", file.path},
                                {"oid", file.oid},
                                {"size", int64_t(file.size)},
                                {"sha256", file.sha256},
                                {"xet_hash", file.xet_hash},
                                {"etag", file.etag()}});
  return list;
}

Json refs_json(const std::vector<hub::GitRef>& refs) {
  Json::Object result;
  for (auto& ref : refs) result[ref.name] = Json::Array{ref.ref, ref.target};
  return result;
}

Json whoami(const Call&) {
  auto account = HubClient().whoami();
  Json::Object organizations;
  for (auto& organization : account.organizations)
    organizations[organization.name] = organization.role;
  return Json::Object{{"name", account.name},
                      {"token_name", account.token_name},
                      {"token_role", account.token_role},
                      {"organizations", organizations}};
}

Json create_repo(const Call& call) {
  HubClient client;
  Repo made{client.full_repo_id(call.words.at(0)), repo({{"a/b"}, call.options}).type};
  return client.create_repo(made,
                            {.private_ = call.flag("private"), .exist_ok = call.flag("exist_ok")});
}

Json update_settings(const Call& call) {
  std::optional<bool> is_private;
  std::optional<std::string> gated;
  if (call.has("private")) is_private = call.flag("private");
  if (call.has("gated")) gated = call.option("gated", "");
  HubClient().update_repo_settings(repo(call), is_private, gated);
  return nullptr;
}

Json list_repos(const Call& call) {
  Json::Array ids;
  auto type = hub::parse_repo_type(call.option("type", "model"));
  for (auto& info :
       HubClient().list_repos(type, call.option("author", ""), call.option("search", ""),
                              std::stoul(call.option("limit", "100"))))
    ids.push_back(info.id);
  return ids;
}

Json list_commits(const Call& call) {
  Json::Array list;
  for (auto& commit : HubClient().list_commits(repo(call), call.option("revision", "main"),
                                               std::stoul(call.option("limit", "1000"))))
    list.push_back(Json::Object{{"oid", commit.oid},
                                {"title", commit.title},
                                {"message", commit.message},
                                {"date", commit.date},
                                {"authors", strings(commit.authors)}});
  return list;
}

Json list_refs(const Call& call) {
  auto refs = HubClient().list_refs(repo(call));
  return Json::Object{{"branches", refs_json(refs.branches)},
                      {"tags", refs_json(refs.tags)},
                      {"pull_requests", refs_json(refs.pull_requests)}};
}

Json xet_token(const Call& call) {
  auto token = HubClient().xet_token(repo(call), call.option("kind", "read"),
                                     call.option("revision", "main"));
  return Json::Object{
      {"cas_url", token.cas_url}, {"expires", token.expires}, {"token", token.access_token}};
}

template <class F>
Verb done(F call) {
  return [call](const Call& words) { return call(words), Json(nullptr); };
}

}  // namespace

Verbs api_verbs() {
  return {
      {"whoami", whoami},
      {"create_repo", create_repo},
      {"delete_repo",
       done([](const Call& c) { HubClient().delete_repo(repo(c), c.flag("missing_ok")); })},
      {"move_repo", done([](const Call& c) { HubClient().move_repo(repo(c), c.words.at(1)); })},
      {"update_settings", update_settings},
      {"repo_info",
       [](const Call& c) {
         return repo_json(HubClient().repo_info(repo(c), c.option("revision", "main")));
       }},
      {"list_repos", list_repos},
      {"resolve",
       [](const Call& c) {
         return Json(HubClient().resolve_revision(repo(c), c.option("revision", "main")));
       }},
      {"list_files",
       [](const Call& c) {
         return files_json(
             HubClient().list_files(repo(c), c.option("revision", "main"), c.option("folder", "")));
       }},
      {"paths_info",
       [](const Call& c) {
         return files_json(HubClient().paths_info(repo(c), c.option("revision", "main"),
                                                  {c.words.begin() + 1, c.words.end()}));
       }},
      {"list_commits", list_commits},
      {"list_refs", list_refs},
      {"create_branch", done([](const Call& c) {
         HubClient().create_branch(repo(c), c.words.at(1), c.option("from", "main"),
                                   c.flag("exist_ok"));
       })},
      {"delete_branch",
       done([](const Call& c) { HubClient().delete_branch(repo(c), c.words.at(1)); })},
      {"create_tag", done([](const Call& c) {
         HubClient().create_tag(repo(c), c.words.at(1), c.option("revision", "main"),
                                c.option("message", ""), c.flag("exist_ok"));
       })},
      {"delete_tag", done([](const Call& c) { HubClient().delete_tag(repo(c), c.words.at(1)); })},
      {"create_pull_request",
       [](const Call& c) {
         return Json(HubClient().create_pull_request(repo(c), c.words.at(1), "words"));
       }},
      {"validate_card",
       [](const Call& c) { return strings(HubClient().validate_card(repo(c), c.words.at(1))); }},
      {"xet_token", xet_token},
  };
}
