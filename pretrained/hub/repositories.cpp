// Making, changing and listing repositories.

#include <algorithm>

#include "pretrained/hub/answers.h"
#include "pretrained/hub/calls.h"

namespace pretrained::hub {
namespace {

Json::Object name_of(const Repo& repo) {
  check_repo_id(repo.id);
  size_t slash = repo.id.find('/');
  Json::Object body{{"name", repo.id.substr(slash + 1)},
                    {"organization", repo.id.substr(0, slash)}};
  if (repo.type != RepoType::model) body["type"] = type_name(repo.type);
  return body;
}

// One that was there already. Whoever asked for a private one must not publish to everybody.
void check_private(const HubClient& client, const Repo& repo) {
  if (read_repo_info(client.get_json(client.api_url(repo), shown(repo)), shown(repo)).private_)
    return;
  std::string type =
      repo.type == RepoType::model ? "" : " --repo-type " + std::string(type_name(repo.type));
  throw Conflict(shown(repo) + " exists and is public, not private: `pretrained repo settings " +
                 repo.id + " --private" + type + "` changes that, or do not ask for a private one");
}

bool exists(const HubClient& client, const Repo& repo) {
  try {
    client.resolve_revision(repo, "main");
    return true;
  } catch (const NotFoundError&) {
    return false;
  }
}

}  // namespace

std::string HubClient::create_repo(const Repo& repo, const CreateRepo& options) const {
  Json::Object body = name_of(repo);
  body["visibility"] = options.private_ ? "private" : "public";
  if (repo.type == RepoType::space) body["sdk"] = "static";
  try {
    send_json("POST", endpoint() + "/api/repos/create", body, shown(repo));
  } catch (const Conflict&) {
    if (!options.exist_ok) throw;
    if (options.private_) check_private(*this, repo);
  } catch (const Unauthorized&) {
    // Who may not create may still write to one that is there.
    if (!options.exist_ok || !exists(*this, repo)) throw;
    if (options.private_) check_private(*this, repo);
  }
  return web_url(repo);
}

void HubClient::delete_repo(const Repo& repo, bool missing_ok) const {
  try {
    send_json("DELETE", endpoint() + "/api/repos/delete", name_of(repo), shown(repo));
  } catch (const RepositoryNotFound&) {
    if (!missing_ok) throw;
  }
}

void HubClient::move_repo(const Repo& from, const std::string& to) const {
  check_repo_id(from.id);
  check_repo_id(to);
  send_json("POST", endpoint() + "/api/repos/move",
            Json::Object{{"fromRepo", from.id}, {"toRepo", to}, {"type", type_name(from.type)}},
            shown(from));
}

void HubClient::update_repo_settings(const Repo& repo, std::optional<bool> private_,
                                     std::optional<std::string> gated) const {
  Json::Object body;
  if (private_) body["visibility"] = *private_ ? "private" : "public";
  if (gated && *gated != "auto" && *gated != "manual" && *gated != "false")
    throw ArgumentError("gated: expected auto, manual or false, got '" + printable(*gated) + "'");
  if (gated) body["gated"] = *gated == "false" ? Json(false) : Json(*gated);
  send_json("PUT", api_url(repo) + "/settings", body, shown(repo));
}

RepoInfo HubClient::repo_info(const Repo& repo, const std::string& revision) const {
  const std::string what = shown(repo, revision);
  RepoInfo info;
  with_suggestions(*this, repo, revision, [&] {
    info =
        read_repo_info(get_json(api_url(repo) + "/revision/" + url_encode(revision), what), what);
  });
  return info;
}

std::vector<RepoInfo> HubClient::list_repos(RepoType type, const std::string& author,
                                            const std::string& search, size_t limit) const {
  std::vector<RepoInfo> repos;
  if (limit == 0) return repos;
  std::string kind = type_name(type) + std::string("s");
  std::string url =
      endpoint() + "/api/" + kind + "?limit=" + std::to_string(std::min<size_t>(limit, 1000));
  if (!author.empty()) url += "&author=" + url_encode(author);
  if (!search.empty()) url += "&search=" + url_encode(search);
  for_each_page(*this, url, kind, [&](const Json& page) {
    for (auto& item : array_of(page, kind))
      if (repos.size() < limit) repos.push_back(read_repo_info(item, kind));
    return repos.size() < limit;
  });
  return repos;
}

std::vector<std::string> HubClient::validate_card(const Repo& repo,
                                                  const std::string& readme) const {
  const std::string what = shown(repo) + ": README.md";
  HttpResponse response = http().send(
      json_request("POST", endpoint() + "/api/validate-yaml",
                   Json::Object{{"content", readme}, {"repoType", type_name(repo.type)}}));
  if (response.status != 200 && response.status != 400) throw_for_status(response, what);
  Json answer = Json::parse(response.body, what + ": the hub's answer");
  auto messages = [&](const char* name) {
    std::vector<std::string> texts;
    if (const Json* list = answer.find(name))
      for (auto& item : array_of(*list, what)) texts.push_back(string_field(item, "message", what));
    return texts;
  };
  std::string refused;
  for (auto& text : messages("errors")) refused += (refused.empty() ? "" : "; ") + printable(text);
  if (!refused.empty()) throw FormatError(what + ": " + refused);
  if (response.status != 200) throw_for_status(response, what);
  return messages("warnings");
}

int64_t HubClient::create_pull_request(const Repo& repo, const std::string& title,
                                       const std::string& description) const {
  Json answer =
      send_json("POST", api_url(repo) + "/discussions",
                Json::Object{{"title", title}, {"description", description}, {"pullRequest", true}},
                shown(repo));
  int64_t number = integer_field(answer, "num", shown(repo));
  if (number < 1)
    throw FormatError(shown(repo) + ": the hub's answer: pull request " + std::to_string(number));
  return number;
}

}  // namespace pretrained::hub
