// What is in a repository: files, commits, branches, tags.

#include <algorithm>
#include <unordered_set>

#include "pretrained/base/text.h"
#include "pretrained/hub/answers.h"
#include "pretrained/hub/calls.h"
#include "pretrained/hub/url.h"

namespace pretrained::hub {
namespace {

constexpr size_t kPathsPerCall = 1000, kCommitsPerPage = 50;

std::string commit_of(const Json& answer, const std::string& what) {
  std::string sha = string_field(answer, "sha", what);
  if (!is_commit_hash(sha))
    throw FormatError(what + ": the hub's answer: '" + printable(sha) + "' is no commit");
  return sha;
}

// A folder that is not there, with one that is spelt nearly so.
std::string near_folder(const HubClient& client, const Repo& repo, const std::string& commit,
                        const std::string& folder) {
  std::vector<std::string> folders;
  for (auto& file : client.list_files(repo, commit))
    for (size_t slash = file.path.find('/'); slash != file.path.npos;
         slash = file.path.find('/', slash + 1))
      if (slash < folder.size() + 3) folders.push_back(file.path.substr(0, slash));
  return suggestion(folder, folders);
}

}  // namespace

std::string HubClient::resolve_revision(const Repo& repo, const std::string& revision) const {
  const std::string what = shown(repo, revision);
  std::string commit;
  with_suggestions(*this, repo, revision, [&] {
    commit = commit_of(
        get_json(api_url(repo) + "/revision/" + url_encode(revision) + "?expand=sha", what), what);
  });
  if (is_commit_hash(revision) && commit != revision)
    throw IntegrityError(what + ": the hub answers with another commit, " + commit);
  return commit;
}

std::vector<RemoteFile> HubClient::list_files(const Repo& repo, const std::string& commit,
                                              const std::string& folder) const {
  std::string what = shown(repo, commit);
  std::string url = api_url(repo) + "/tree/" + url_encode(commit);
  if (!folder.empty()) {
    what += ": " + printable(folder);
    url += "/" + url_encode(folder, true);
  }
  std::vector<RemoteFile> files;
  auto take = [&](const Json& page) {
    auto more = read_files(page, what);
    files.insert(files.end(), std::make_move_iterator(more.begin()),
                 std::make_move_iterator(more.end()));
    return true;
  };
  try {
    with_suggestions(*this, repo, commit, [&] {
      for_each_page(*this, url + "?recursive=true&expand=false", what, take);
    });
  } catch (const EntryNotFound& error) {
    if (folder.empty()) throw;
    throw EntryNotFound(extended(error.what(), near_folder(*this, repo, commit, folder)));
  }
  for (auto& file : files)
    if (!folder.empty() && !file.path.starts_with(folder + "/"))
      throw FormatError(what + ": the hub's answer: '" + printable(file.path) + "' lies elsewhere");
  check_listing(files, what);
  std::sort(files.begin(), files.end(),
            [](const RemoteFile& a, const RemoteFile& b) { return a.path < b.path; });
  return files;
}

std::vector<RemoteFile> HubClient::paths_info(const Repo& repo, const std::string& commit,
                                              const std::vector<std::string>& paths) const {
  const std::string what = shown(repo, commit);
  std::vector<RemoteFile> files;
  for (size_t at = 0; at < paths.size(); at += kPathsPerCall) {
    Json::Array batch(paths.begin() + at,
                      paths.begin() + std::min(paths.size(), at + kPathsPerCall));
    Json::Object body{{"paths", std::move(batch)}, {"expand", false}};
    with_suggestions(*this, repo, commit, [&] {
      auto request =
          json_request("POST", api_url(repo) + "/paths-info/" + url_encode(commit), body);
      auto found = read_files(answer_of(http().send(request), what), what);
      files.insert(files.end(), found.begin(), found.end());
    });
  }
  std::unordered_set<std::string> asked(paths.begin(), paths.end());
  for (auto& file : files)
    if (!asked.contains(file.path))
      throw FormatError(what + ": the hub's answer: '" + printable(file.path) +
                        "' was not asked for");
  return files;
}

std::vector<CommitEntry> HubClient::list_commits(const Repo& repo, const std::string& revision,
                                                 size_t limit) const {
  const std::string what = shown(repo, revision);
  std::vector<CommitEntry> commits;
  if (limit == 0) return commits;
  std::string url = api_url(repo) + "/commits/" + url_encode(revision) +
                    "?limit=" + std::to_string(std::min(limit, kCommitsPerPage));
  with_suggestions(*this, repo, revision, [&] {
    for_each_page(*this, url, what, [&](const Json& page) {
      for (auto& commit : read_commits(page, what))
        if (commits.size() < limit) commits.push_back(std::move(commit));
      return commits.size() < limit;
    });
  });
  return commits;
}

GitRefs HubClient::list_refs(const Repo& repo) const {
  return read_refs(get_json(api_url(repo) + "/refs?include_prs=1", shown(repo)), shown(repo));
}

void HubClient::create_branch(const Repo& repo, const std::string& branch, const std::string& from,
                              bool exist_ok) const {
  try {
    with_suggestions(*this, repo, from, [&] {
      send_json("POST", api_url(repo) + "/branch/" + url_encode(branch),
                Json::Object{{"startingPoint", from}}, shown(repo, branch));
    });
  } catch (const Conflict&) {
    if (!exist_ok) throw;
  }
}

void HubClient::delete_branch(const Repo& repo, const std::string& branch) const {
  with_suggestions(*this, repo, branch, [&] {
    send_json("DELETE", api_url(repo) + "/branch/" + url_encode(branch), nullptr,
              shown(repo, branch));
  });
}

void HubClient::create_tag(const Repo& repo, const std::string& tag, const std::string& revision,
                           const std::string& message, bool exist_ok) const {
  Json::Object body{{"tag", tag}};
  if (!message.empty()) body["message"] = message;
  try {
    with_suggestions(*this, repo, revision, [&] {
      send_json("POST", api_url(repo) + "/tag/" + url_encode(revision), body, shown(repo, tag));
    });
  } catch (const Conflict&) {
    if (!exist_ok) throw;
  }
}

void HubClient::delete_tag(const Repo& repo, const std::string& tag) const {
  with_suggestions(*this, repo, tag, [&] {
    send_json("DELETE", api_url(repo) + "/tag/" + url_encode(tag), nullptr, shown(repo, tag));
  });
}

XetToken HubClient::xet_token(const Repo& repo, const std::string& kind,
                              const std::string& revision) const {
  const std::string what = shown(repo, revision);
  return read_xet_token(
      get_json(api_url(repo) + "/xet-" + kind + "-token/" + url_encode(revision), what), what);
}

}  // namespace pretrained::hub
