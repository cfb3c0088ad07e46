#include "pretrained/hub/client.h"

#include <charconv>
#include <cstdlib>

#include "pretrained/base/text.h"
#include "pretrained/hub/answers.h"
#include "pretrained/hub/calls.h"
#include "pretrained/hub/login.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/tokens.h"

namespace pretrained::hub {
namespace {

constexpr uint64_t kJsonLimit = 16 << 20;  // as Json::parse takes
constexpr int kPages = 100'000;
constexpr uint64_t kListLimit = 256 << 20;  // of all pages; about a million files

std::chrono::milliseconds stall_timeout() {
  const char* value = std::getenv("HF_HUB_DOWNLOAD_TIMEOUT");
  if (!value || !*value) return HttpOptions().stall_timeout;
  std::string_view text = value;
  int seconds = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds < 1 || seconds > 86400)
    throw ArgumentError("HF_HUB_DOWNLOAD_TIMEOUT: expected seconds, got '" + printable(value) +
                        "'");
  return std::chrono::seconds(seconds);
}

HttpOptions http_options(const ClientOptions& options) {
  HttpOptions http;
  http.endpoint = options.endpoint.empty() ? default_endpoint() : options.endpoint;
  while (http.endpoint.ends_with('/')) http.endpoint.pop_back();
  http.offline = options.offline || is_offline();
  http.stall_timeout = stall_timeout();
  http.notice = options.notice;
  if (options.token)
    http.token = *options.token;
  else if (!is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
    http.token = http.offline ? find_token() : current_token(http.endpoint);
  return http;
}

HttpRequest get_request(const std::string& url) { return {.url = url, .body_limit = kJsonLimit}; }

}  // namespace

struct HubClient::State {
  explicit State(HttpOptions options) : http(std::move(options)) {}
  HttpClient http;
};

HubClient::HubClient(ClientOptions options)
    : state_(std::make_unique<State>(http_options(options))) {}
HubClient::~HubClient() = default;
HubClient::HubClient(HubClient&&) noexcept = default;

HttpClient& HubClient::http() const { return state_->http; }
const std::string& HubClient::endpoint() const { return http().options().endpoint; }
const std::string& HubClient::token() const { return http().options().token; }
bool HubClient::offline() const { return http().options().offline; }

std::string HubClient::api_url(const Repo& repo) const {
  check_repo_id(repo.id);
  return endpoint() + "/api/" + type_name(repo.type) + "s/" + repo.id;
}

std::string HubClient::web_url(const Repo& repo) const {
  check_repo_id(repo.id);
  std::string prefix = repo.type == RepoType::model ? "" : type_name(repo.type) + std::string("s/");
  return endpoint() + "/" + prefix + repo.id;
}

Json answer_of(const HttpResponse& response, const std::string& what) {
  if (response.status / 100 != 2) throw_for_status(response, what);
  if (response.body.empty()) return nullptr;
  return Json::parse(response.body, what + ": the hub's answer");
}

HttpRequest json_request(const std::string& method, const std::string& url, const Json& body) {
  HttpRequest request{.method = method, .url = url, .body_limit = kJsonLimit};
  if (body.is_null()) return request;
  request.headers = {{"Content-Type", "application/json"}};
  request.body = body.dump(0);
  return request;
}

Json HubClient::get_json(const std::string& url, const std::string& what) const {
  return answer_of(http().send(get_request(url)), what);
}

Json HubClient::send_json(const std::string& method, const std::string& url, const Json& body,
                          const std::string& what) const {
  HttpRequest request = json_request(method, url, body);
  request.once = method == "POST";
  return answer_of(http().send(request), what);
}

Account HubClient::whoami() const {
  if (token().empty() && !offline())
    throw Unauthorized("not logged in: `pretrained auth login`, or set HF_TOKEN");
  return read_account(get_json(endpoint() + "/api/whoami-v2", endpoint()), endpoint());
}

std::string HubClient::full_repo_id(const std::string& name) const {
  std::string id = name.find('/') == name.npos ? "x/" + name : name;
  check_repo_id(id);  // before anything is asked
  return name.find('/') == name.npos ? whoami().name + "/" + name : name;
}

std::string shown(const Repo& repo, const std::string& revision) {
  std::string text = repo.type == RepoType::model ? "" : type_name(repo.type) + std::string(" ");
  text += printable(repo.id, 120);
  return revision.empty() || revision == "main" ? text : text + "@" + printable(revision, 80);
}

void for_each_page(const HubClient& client, const std::string& url, const std::string& what,
                   const std::function<bool(const Json&)>& take) {
  std::string next = url;
  uint64_t bytes = 0;
  for (int page = 0; page < kPages && bytes <= kListLimit; ++page) {
    HttpResponse response = client.http().send(get_request(next));
    bytes += response.body.size();
    if (!take(answer_of(response, what))) return;
    std::string link = next_page(response.header("link"));
    if (link.empty()) return;
    if (!client.http().is_own_origin(link) || link == next)
      throw IntegrityError(what + ": the next page lies at " + printable(link) + ", not on " +
                           client.endpoint());
    next = link;
  }
  throw IntegrityError(what + ": a list without end");
}

namespace {

std::vector<std::string> names_of_refs(const HubClient& client, const Repo& repo) {
  std::vector<std::string> names;
  GitRefs refs = client.list_refs(repo);
  for (auto* list : {&refs.branches, &refs.tags})
    for (auto& ref : *list) names.push_back(ref.name);
  return names;
}

std::vector<std::string> ids_near(const HubClient& client, const Repo& repo) {
  std::vector<std::string> ids;
  size_t slash = repo.id.find('/');
  for (auto& info : client.list_repos(repo.type, repo.id.substr(0, slash), "", 1000))
    ids.push_back(info.id);
  for (auto& info : client.list_repos(repo.type, "", repo.id.substr(slash + 1), 100))
    ids.push_back(info.id);
  return ids;
}

// Help that fails is no help, and no error either.
std::string suggest(const std::string& word,
                    const std::function<std::vector<std::string>()>& known) {
  try {
    return suggestion(word, known());
  } catch (const Error&) {
    return "";
  }
}

bool is_part_of_hash(const std::string& text) {
  return text.size() >= 7 && text.size() < 40 && is_hex(text, text.size());
}

// What an abbreviated commit id may stand for.
std::string whole_hash(const HubClient& client, const Repo& repo, const std::string& part) {
  std::string found;
  try {
    for (auto& commit : client.list_commits(repo))
      if (commit.oid.starts_with(part)) found = found.empty() ? commit.oid : "several";
  } catch (const Error&) {
  }
  return "; a commit is named by all 40 digits of its id" +
         (is_commit_hash(found) ? ": did you mean " + found + "?" : "");
}

}  // namespace

void with_suggestions(const HubClient& client, const Repo& repo, const std::string& revision,
                      const std::function<void()>& call) {
  try {
    call();
  } catch (const RevisionNotFound& error) {
    std::string more = is_part_of_hash(revision)
                           ? whole_hash(client, repo, revision)
                           : suggest(revision, [&] { return names_of_refs(client, repo); });
    throw RevisionNotFound(extended(error.what(), more));
  } catch (const RepositoryNotFound& error) {
    throw RepositoryNotFound(
        extended(error.what(), suggest(repo.id, [&] { return ids_near(client, repo); })));
  }
}

}  // namespace pretrained::hub
