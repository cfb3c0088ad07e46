#include "server/api/changes.h"

#include <charconv>

#include "server/api/commit_reader.h"
#include "server/repos/discussions.h"

namespace pretrained::server {
namespace {

bool owns_pull_request(Services& services, const Caller& caller, const Repo& repo,
                       const std::string& reference) {
  auto number = pull_request_number(reference);
  if (!number) return false;
  Discussions discussions(services.database, services.git, services.repos);
  auto found = discussions.find(repo, *number);
  return found && found->is_pull_request && found->author_id == caller.user->id &&
         (found->status == "draft" || found->status == "open");
}

}  // namespace

std::optional<int64_t> pull_request_number(std::string_view reference) {
  constexpr std::string_view prefix = "refs/pr/";
  if (!reference.starts_with(prefix)) return std::nullopt;
  reference.remove_prefix(prefix.size());
  int64_t number = 0;
  auto [end, error] =
      std::from_chars(reference.data(), reference.data() + reference.size(), number);
  bool whole = error == std::errc() && end == reference.data() + reference.size();
  if (!whole || number < 1 || std::to_string(number) != reference) return std::nullopt;
  return number;
}

bool may_write_reference(Services& services, const Caller& caller, const Repo& repo,
                         const std::string& reference) {
  bool granted = services.repos.access_granted(repo, caller);
  return role_on(caller, repo.access, granted) >= Role::write ||
         (may_open_pull_request(caller, repo.access, granted) &&
          owns_pull_request(services, caller, repo, reference));
}

Repo require_writable(Call& call, const std::string& revision, bool create_pull_request) {
  if (call.caller.user && (create_pull_request || pull_request_number(revision))) {
    Repo repo = require_repo(call, Role::read);
    bool granted = call.services.repos.access_granted(repo, call.caller);
    bool allowed = create_pull_request
                       ? may_open_pull_request(call.caller, repo.access, granted)
                       : may_write_reference(call.services, call.caller, repo, revision);
    if (allowed) return repo;
  }
  return require_repo(call, Role::write);
}

Branch require_branch(Call& call, const Repo& repo, const std::string& revision) {
  Branch branch;
  if (revision == "HEAD")
    branch.reference = "refs/heads/main";
  else if (revision.starts_with("refs/heads/") || pull_request_number(revision))
    branch.reference = revision;
  else
    branch.reference = "refs/heads/" + revision;
  bool any_branch = false;
  for (const auto& ref : call.services.git.refs(repo.access.id)) {
    any_branch = any_branch || ref.name.starts_with("refs/heads/");
    if (ref.name == branch.reference) branch.head = ref.target;
  }
  if (branch.head == kNoOid && (any_branch || branch.reference != "refs/heads/main"))
    throw HttpError(404, "RevisionNotFound", "Invalid rev id: " + printable(revision));
  return branch;
}

void check_reference_name(const std::string& reference) {
  auto refuse = [&](const char* why) {
    throw HttpError(400, "", "Invalid reference name '" + printable(reference) + "': " + why);
  };
  if (reference.size() > 250) refuse("longer than 250 bytes");
  if (reference.find("..") != std::string::npos || reference.find("@{") != std::string::npos)
    refuse("it contains '..' or '@{'");
  for (unsigned char c : reference)
    if (c <= ' ' || c == 127 || std::string_view("~^:?*[\\").find(char(c)) != std::string::npos)
      refuse("it contains a space, a control character or one of ~^:?*[\\");
  if (reference.ends_with(".")) refuse("it ends with '.'");
  for (size_t start = 0; start <= reference.size();) {
    size_t end = std::min(reference.find('/', start), reference.size());
    std::string_view part = std::string_view(reference).substr(start, end - start);
    if (part.empty() || part.starts_with(".") || part.starts_with("-") || part.ends_with(".lock"))
      refuse("a part is empty, starts with '.' or '-', or ends with '.lock'");
    start = end + 1;
  }
}

bool is_commit_id(std::string_view name) { return is_hex(name, 40); }

void challenge(Call& call, const HttpError& error) {
  bool hidden = error.status == 401 || error.status == 403 || error.status == 404;
  if (!call.caller.anonymous() || !hidden) return;
  Headers headers;
  headers.set("WWW-Authenticate", "Basic realm=\"pretrained-hub\"");
  headers.set("LFS-Authenticate", "Basic realm=\"pretrained-hub\"");
  throw HttpError(401, "", "Authentication required: a token as password, any user name", headers);
}

bool may_upload(Services& services, const Caller& caller, const Repo& repo) {
  return role_on(caller, repo.access) >= Role::write ||
         may_open_pull_request(caller, repo.access, services.repos.access_granted(repo, caller));
}

std::optional<int64_t> read_number(std::string_view text) {
  int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && number >= 0 ? std::optional(number) : std::nullopt;
}

Holder::Holder(const Caller& caller, const Repo& of)
    : repo(of.access.id),
      user(caller.user ? caller.user->id : 0),
      token(caller.token ? caller.token->id : 0) {}

std::optional<Holder> Holder::parse(std::string_view text) {
  size_t first = text.find('.'), last = text.rfind('.');
  if (first == last) return std::nullopt;
  auto repo = read_number(text.substr(0, first));
  auto user = read_number(text.substr(first + 1, last - first - 1));
  auto token = read_number(text.substr(last + 1));
  if (!repo || !user || !token) return std::nullopt;
  Holder holder;
  holder.repo = *repo, holder.user = *user, holder.token = *token;
  return holder;
}

std::string Holder::text() const {
  return std::to_string(repo) + "." + std::to_string(user) + "." + std::to_string(token);
}

Held require_holder(Services& services, const Holder& holder, bool upload) {
  auto repo = services.repos.find(holder.repo);
  if (!repo) throw HttpError(404, "RepoNotFound", "Repository not found");
  Held held{{}, std::move(*repo)};
  if (holder.user != 0) {
    auto known = services.accounts.recall(holder.user, holder.token);
    if (!known) throw HttpError(401, "", "The token that this was given for has ended");
    held.caller = std::move(*known);
  }
  held.caller.anonymous_role = services.options.anonymous;
  bool granted = services.repos.access_granted(held.repo, held.caller);
  if (role_on(held.caller, held.repo.access, granted) < Role::read)
    throw HttpError(403, "", "You no longer have access to the repository");
  if (upload && !may_upload(services, held.caller, held.repo))
    throw HttpError(403, "", "You may no longer write to the repository");
  return held;
}

namespace {

std::vector<std::string> signed_parts(const std::string& purpose, const std::string& path,
                                      const std::string& holder) {
  return {"address", purpose, path, holder};
}

}  // namespace

std::string signed_url(const Call& call, const Caller& holder, const Repo& repo,
                       const std::string& purpose, const std::string& path, int64_t seconds) {
  int64_t expires = now_ms() / 1000 + seconds;
  std::string who = Holder(holder, repo).text();
  return call.request.base_url + path + "?for=" + who + "&expires=" + std::to_string(expires) +
         "&signature=" + sign(call.services, signed_parts(purpose, path, who), expires);
}

Repo require_signature(const Call& call, const std::string& purpose, bool upload) {
  const Request& request = call.request;
  std::string path = request.target.substr(0, request.target.find('?'));
  std::string who = request.parameter("for").value_or("");
  auto holder = Holder::parse(who);
  auto expires = read_number(request.parameter("expires").value_or(""));
  if (!holder || !expires ||
      !verify_signature(call.services, signed_parts(purpose, path, who), *expires,
                        request.parameter("signature").value_or("")))
    throw HttpError(403, "", "This address is not signed by this hub, or has expired; ask again");
  return require_holder(call.services, *holder, upload).repo;
}

uint64_t number_capture(const Call& call, const std::string& name) {
  const std::string& text = call.captures.at(name);
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    throw HttpError(400, "", name + ": expected a number, got '" + printable(text) + "'");
  return number;
}

}  // namespace pretrained::server
