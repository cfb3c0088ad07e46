// Discussions and pull requests.

#include "server/repos/discussions.h"

#include <charconv>

#include "server/api/common.h"

namespace pretrained::server {
namespace {

constexpr int64_t kPage = 25;

Discussions discussions(Call& call) {
  return {call.services.database, call.services.git, call.services.repos};
}

int64_t to_number(const std::string& text, const std::string& what) {
  int64_t number = -1;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0 || number > 1 << 30)
    throw HttpError(400, "", what + " '" + printable(text) + "': expected a number");
  return number;
}

Discussion require_discussion(Call& call, const Repo& repo) {
  int64_t num = to_number(call.captures.at("num"), "discussion");
  auto found = discussions(call).find(repo, num);
  if (!found) throw HttpError(404, "", "Discussion " + std::to_string(num) + " not found");
  return *found;
}

// Whoever reads may take part, signed in and with a token that may write.
Repo require_participant(Call& call) {
  Repo repo = require_repo(call, Role::read);
  require_user(call, true);
  if (!may_open_pull_request(call.caller, repo.access,
                             call.services.repos.access_granted(repo, call.caller)))
    throw HttpError(403, "", "This token may not write to " + repo.full_name());
  call.services.blobs.check_space();
  return repo;
}

bool may_write(Call& call, const Repo& repo) {
  return role_on(call.caller, repo.access, call.services.repos.access_granted(repo, call.caller)) >=
         Role::write;
}

// Of a Discussion or a DiscussionEvent.
template <class T>
bool is_author(const Call& call, const T& of) {
  return call.caller.user && of.author_id == call.caller.user->id;
}

template <class T>
void require_author_or_writer(Call& call, const Repo& repo, const T& of) {
  if (is_author(call, of) || may_write(call, repo)) return;
  throw HttpError(403, "", "Only " + of.author + " and those with write access may do this");
}

// ---- how they look
// --------------------------------------------------------------------------------

Json author_facts(Call& call, const std::string& name) {
  return Json::Object{
      {"name", name}, {"type", "user"}, {"avatarUrl", call.request.base_url + "/favicon.ico"}};
}

Json event_facts(Call& call, const DiscussionEvent& event) {
  return Json::Object{{"id", event.id},
                      {"type", event.type},
                      {"author", author_facts(call, event.author)},
                      {"createdAt", iso8601(event.created_at)},
                      {"data", event.data}};
}

Json::Object facts(Call& call, const Repo& repo, const Discussion& d) {
  return {{"num", d.num},
          {"title", d.title},
          {"author", author_facts(call, d.author)},
          {"createdAt", iso8601(d.created_at)},
          {"status", d.status},
          {"isPullRequest", d.is_pull_request},
          {"pinned", false},
          {"locked", false},
          {"repo", Json::Object{{"name", repo.full_name()}, {"type", repo.access.type}}}};
}

// ---- handlers
// ---------------------------------------------------------------------------------------

Response list(Call& call) {
  Repo repo = require_repo(call, Role::read);
  const Request& request = call.request;
  DiscussionQuery query;
  query.limit = kPage;
  query.offset = to_number(request.parameter("p").value_or("0"), "p") * kPage;
  std::string type = request.parameter("type").value_or("all");
  if (type != "all") query.pull_requests = type == "pull_request";
  query.status = request.parameter("status");
  if (query.status == "all") query.status.reset();
  query.author = request.parameter("author");
  int64_t total = 0;
  Json::Array page;
  for (const auto& d : discussions(call).list(repo, query, total))
    page.push_back(facts(call, repo, d));
  return json_response(
      Json::Object{{"discussions", page}, {"count", total}, {"start", query.offset}});
}

Response details(Call& call) {
  Repo repo = require_repo(call, Role::read);
  Discussion d = require_discussion(call, repo);
  Discussions all = discussions(call);
  Json::Object answer = facts(call, repo, d);
  Json::Array events;
  for (const auto& event : all.events(repo, d.num)) events.push_back(event_facts(call, event));
  answer["events"] = events;
  if (d.is_pull_request) {
    Json::Object changes{{"base", d.base}};
    if (d.merge_commit) changes["mergeCommitId"] = *d.merge_commit;
    answer["changes"] = changes;
    Json::Array conflicts;
    for (const auto& path : all.conflicts(repo, d)) conflicts.push_back(path);
    answer["filesWithConflicts"] = conflicts;
    if (call.request.flag("diff")) answer["diff"] = all.diff(repo, d);
  }
  return json_response(answer);
}

Response create(Call& call) {
  Repo repo = require_participant(call);
  Json body = read_json(call);
  std::string title = string_field(body, "title");
  std::string description = optional_string_field(body, "description").value_or("");
  bool pull_request = bool_field(body, "pullRequest", false);
  Discussion d;
  if (pull_request) {
    PullRequestContent content;
    content.head = require_revision(call, repo, "HEAD");
    d = discussions(call).open_pull_request(call.caller, repo, title, description, true, content);
  } else {
    d = discussions(call).open(call.caller, repo, title, description);
  }
  return json_response(
      Json::Object{{"num", d.num},
                   {"url", repo_url(call, repo) + "/discussions/" + std::to_string(d.num)},
                   {"pullRequest", pull_request}});
}

Response comment(Call& call) {
  Repo repo = require_participant(call);
  Discussion d = require_discussion(call, repo);
  auto event =
      discussions(call).comment(call.caller, repo, d, string_field(read_json(call), "comment"));
  return json_response(Json::Object{{"newMessage", event_facts(call, event)}});
}

DiscussionEvent require_comment(Call& call, const Repo& repo, const Discussion& d) {
  auto event = discussions(call).event(repo, d.num, call.captures.at("comment"));
  if (!event || event->type != "comment") throw HttpError(404, "", "Comment not found");
  return *event;
}

Response edit(Call& call) {
  Repo repo = require_participant(call);
  Discussion d = require_discussion(call, repo);
  auto event = require_comment(call, repo, d);
  if (!is_author(call, event))
    throw HttpError(403, "", "Only " + event.author + " may edit this comment");
  auto edited = discussions(call).edit(repo, d, event.id, string_field(read_json(call), "content"));
  return json_response(Json::Object{{"updatedComment", event_facts(call, edited)}});
}

Response hide(Call& call) {
  Repo repo = require_participant(call);
  Discussion d = require_discussion(call, repo);
  auto event = require_comment(call, repo, d);
  require_author_or_writer(call, repo, event);
  auto hidden = discussions(call).hide(call.caller, repo, d, event.id);
  return json_response(Json::Object{{"updatedComment", event_facts(call, hidden)}});
}

Response rename(Call& call) {
  Repo repo = require_participant(call);
  Discussion d = require_discussion(call, repo);
  require_author_or_writer(call, repo, d);
  auto event =
      discussions(call).rename(call.caller, repo, d, string_field(read_json(call), "title"));
  return json_response(Json::Object{{"newTitle", event_facts(call, event)}});
}

Response set_status(Call& call) {
  Repo repo = require_participant(call);
  Discussion d = require_discussion(call, repo);
  require_author_or_writer(call, repo, d);
  Json body = read_json(call);
  auto event = discussions(call).set_status(call.caller, repo, d, string_field(body, "status"),
                                            optional_string_field(body, "comment").value_or(""));
  return json_response(Json::Object{{"newStatus", event_facts(call, event)}});
}

Response merge(Call& call) {
  Repo repo = require_repo(call, Role::write);
  Discussion d = require_discussion(call, repo);
  std::string text = optional_string_field(read_json(call), "comment").value_or("");
  Oid commit = discussions(call).merge(call.caller, repo, d, text);
  return json_response(Json::Object{{"mergeCommitId", commit}});
}

}  // namespace

std::vector<Route<ApiHandler>> discussion_routes() {
  const std::string all = kRepoPattern + "/discussions";
  const std::string one = all + "/{num}";
  return {
      {"GET", all, list},
      {"POST", all, create},
      {"GET", one, details},
      {"POST", one + "/comment", comment},
      {"POST", one + "/comment/{comment}/edit", edit},
      {"POST", one + "/comment/{comment}/hide", hide},
      {"POST", one + "/title", rename},
      {"POST", one + "/status", set_status},
      {"POST", one + "/merge", merge},
  };
}

}  // namespace pretrained::server
