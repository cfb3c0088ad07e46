// Likes, access to gated repositories, and what the hub says of users and organisations.

#include <map>

#include "server/api/common.h"

namespace pretrained::server {
namespace {

constexpr int64_t kPage = 1000;
constexpr size_t kMaxFields = 16 << 10;

Json avatar(const Call& call) { return call.request.base_url + "/favicon.ico"; }

Json::Object user_facts(const Call& call, const std::string& name, const std::string& fullname) {
  return {{"user", name},
          {"fullname", fullname.empty() ? name : fullname},
          {"avatarUrl", avatar(call)},
          {"type", "user"},
          {"isPro", false}};
}

Json::Object org_facts(const Call& call, const Account& org) {
  return {{"name", org.name},
          {"fullname", org.fullname.empty() ? org.name : org.fullname},
          {"avatarUrl", avatar(call)},
          {"type", "org"}};
}

// A hub that strangers may not read does not name its people to them either.
Account require_account(Call& call, const std::string& name, bool org) {
  if (call.services.options.anonymous == Role::none) require_user(call);
  auto account = call.services.accounts.find(name);
  if (!account || account->is_org != org)
    throw HttpError(404, "",
                    std::string(org ? "Organization" : "User") + " not found: " + printable(name));
  return *account;
}

int64_t cursor_of(const Call& call) {
  std::string text = call.request.parameter("cursor").value_or("0");
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != text.npos)
    throw HttpError(400, "", "cursor '" + printable(text) + "': not one of ours");
  return std::stoll(text);
}

// ---- likes
// ------------------------------------------------------------------------------------------

Response like(Call& call) {
  Repo repo = require_visible_repo(call);
  int64_t user = require_user(call, true).id;
  call.services.database.write([&](Transaction& t) {
    t.run("INSERT OR IGNORE INTO likes (repo, user, at) VALUES (?, ?, ?)", repo.access.id, user,
          now_ms());
  });
  return json_response(Json::Object{});
}

Response unlike(Call& call) {
  Repo repo = require_visible_repo(call);
  int64_t user = require_user(call, true).id;
  call.services.database.write([&](Transaction& t) {
    t.run("DELETE FROM likes WHERE repo = ? AND user = ?", repo.access.id, user);
  });
  return json_response(Json::Object{});
}

Response likers(Call& call) {
  Repo repo = require_visible_repo(call);
  auto rows = call.services.database.read([&](Transaction& t) {
    return t.query(
        "SELECT a.name, a.fullname, a.id FROM likes l JOIN accounts a ON a.id = l.user"
        " WHERE l.repo = ? AND l.user > ? ORDER BY l.user LIMIT ?",
        repo.access.id, cursor_of(call), kPage);
  });
  Json::Array page;
  for (const auto& row : rows) page.push_back(user_facts(call, row.text(0), row.text(1)));
  Response response = json_response(page);
  if (int64_t(rows.size()) == kPage)
    add_next_link(call, response, {{"cursor", std::to_string(rows.back().integer(2))}});
  return response;
}

// Only repositories that the caller may see.
Response liked(Call& call) {
  Account user = require_account(call, call.captures.at("user"), false);
  auto rows = call.services.database.read([&](Transaction& t) {
    return t.query("SELECT repo, at FROM likes WHERE user = ? AND repo > ? ORDER BY repo LIMIT ?",
                   user.id, cursor_of(call), kPage);
  });
  Json::Array page;
  for (const auto& row : rows) {
    auto repo = call.services.repos.find(row.integer(0));
    if (!repo || !may_see(call.caller, repo->access)) continue;
    page.push_back(Json::Object{
        {"createdAt", iso8601(row.integer(1))},
        {"repo", Json::Object{{"name", repo->full_name()}, {"type", repo->access.type}}}});
  }
  Response response = json_response(page);
  if (int64_t(rows.size()) == kPage)
    add_next_link(call, response, {{"cursor", std::to_string(rows.back().integer(0))}});
  return response;
}

// ---- access to gated repositories
// ---------------------------------------------------------------------

std::string request_id(int64_t user) {
  std::string digits = std::to_string(user);
  return std::string(24 - digits.size(), '0') + digits;
}

// The answers of the form, text by name.
std::string request_fields(Call& call) {
  Json::Object fields;
  if (call.request.headers.get("Content-Type").starts_with("application/x-www-form-urlencoded")) {
    for (const auto& [name, value] : read_form(call, kMaxFields)) fields[name] = value;
  } else {
    Json body = read_json(call, kMaxFields);
    for (const auto& [name, value] : *body.get_if<Json::Object>())
      if (value.get_if<std::string>() || value.get_if<bool>()) fields[name] = value;
  }
  return Json(fields).dump(0);
}

Response ask_access(Call& call) {
  Repo repo = require_visible_repo(call);
  int64_t user = require_user(call).id;
  if (repo.access.gated.empty())
    throw HttpError(400, "", repo.full_name() + " is not gated: everybody who sees it has access");
  call.services.blobs.check_space();
  std::string fields = request_fields(call);
  std::string status = call.services.database.write([&](Transaction& t) {
    t.run(
        "INSERT OR IGNORE INTO access_requests (repo, user, status, fields, at)"
        " VALUES (?, ?, ?, ?, ?)",
        repo.access.id, user, repo.access.gated == "auto" ? "accepted" : "pending", fields,
        now_ms());
    return t
        .one("SELECT status FROM access_requests WHERE repo = ? AND user = ?", repo.access.id, user)
        ->text(0);
  });
  if (status == "rejected")
    throw HttpError(
        403, "GatedRepo",
        "Your request to access " + repo.full_name() + " has been rejected by its authors");
  return json_response(Json::Object{{"status", status}});
}

Response requests(Call& call) {
  Repo repo = require_repo(call, Role::write);
  auto rows = call.services.database.read([&](Transaction& t) {
    return t.query(
        "SELECT a.id, a.name, a.fullname, a.email, q.status, q.at, q.fields"
        " FROM access_requests q JOIN accounts a ON a.id = q.user"
        " WHERE q.repo = ? AND q.status = ? AND q.user > ? ORDER BY q.user LIMIT ?",
        repo.access.id, call.captures.at("status"), cursor_of(call), kPage);
  });
  Json::Array page;
  for (const auto& row : rows) {
    Json::Object user = user_facts(call, row.text(1), row.text(2));
    user["email"] = row.text(3);
    page.push_back(Json::Object{{"requestId", request_id(row.integer(0))},
                                {"status", row.text(4)},
                                {"timestamp", iso8601(row.integer(5))},
                                {"fields", Json::parse(row.text(6), "access_requests.fields")},
                                {"user", user}});
  }
  Response response = json_response(page);
  if (int64_t(rows.size()) == kPage)
    add_next_link(call, response, {{"cursor", std::to_string(rows.back().integer(0))}});
  return response;
}

Account require_requester(Call& call, const Json& body) {
  if (auto id = optional_string_field(body, "requestId")) {
    bool digits = id->size() == 24 && id->find_first_not_of("0123456789") == id->npos;
    auto user = digits && id->starts_with("000000")
                    ? call.services.accounts.find(int64_t(std::stoll(id->substr(6))))
                    : std::nullopt;
    if (!user) throw HttpError(404, "", "Access request not found");
    return *user;
  }
  return require_account(call, string_field(body, "user"), false);
}

// "pending" again, "accepted" or "rejected".
Response handle_request(Call& call) {
  Repo repo = require_repo(call, Role::write);
  Json body = read_json(call);
  std::string status = string_field(body, "status");
  if (status != "pending" && status != "accepted" && status != "rejected")
    throw HttpError(400, "", "field 'status': expected pending, accepted or rejected");
  if (repo.access.gated.empty()) throw HttpError(400, "", repo.full_name() + " is not gated");
  Account user = require_requester(call, body);
  int64_t rows = call.services.database.write([&](Transaction& t) {
    return t.run("UPDATE access_requests SET status = ? WHERE repo = ? AND user = ?", status,
                 repo.access.id, user.id);
  });
  if (rows == 0) throw HttpError(404, "", user.name + " did not ask for access");
  call.services.accounts.audit(call.caller, "access." + status, repo.full_name(), user.name);
  return json_response(Json::Object{});
}

Response grant(Call& call) {
  Repo repo = require_repo(call, Role::write);
  if (repo.access.gated.empty()) throw HttpError(400, "", repo.full_name() + " is not gated");
  Account user = require_account(call, string_field(read_json(call), "user"), false);
  call.services.database.write([&](Transaction& t) {
    auto row = t.one("SELECT status FROM access_requests WHERE repo = ? AND user = ?",
                     repo.access.id, user.id);
    if (row && row->text(0) == "accepted")
      throw HttpError(400, "", user.name + " has access already");
    t.run(
        "INSERT OR REPLACE INTO access_requests (repo, user, status, at)"
        " VALUES (?, ?, 'accepted', ?)",
        repo.access.id, user.id, now_ms());
  });
  call.services.accounts.audit(call.caller, "access.grant", repo.full_name(), user.name);
  return json_response(Json::Object{});
}

// ---- users and organisations
// ------------------------------------------------------------------------

// Private ones count for those who belong there.
void add_counts(Call& call, const Account& owner, Json::Object& facts) {
  bool all = role_in(call.caller, owner) >= Role::read;
  static const std::map<std::string, const char*> kCounts = {{"model", "numModels"},
                                                             {"dataset", "numDatasets"},
                                                             {"space", "numSpaces"},
                                                             {"kernel", "numKernels"}};
  for (const auto& [type, name] : kCounts) facts[name] = 0;
  auto rows = call.services.database.read([&](Transaction& t) {
    return t.query(
        "SELECT type, count(*) FROM repos WHERE owner = ? AND disabled = 0"
        " AND (private = 0 OR ?) GROUP BY type",
        owner.id, all);
  });
  for (const auto& row : rows) facts[kCounts.at(row.text(0))] = row.integer(1);
}

Response user_overview(Call& call) {
  Account user = require_account(call, call.captures.at("user"), false);
  Json::Object facts = user_facts(call, user.name, user.fullname);
  add_counts(call, user, facts);
  auto counts = call.services.database.read([&](Transaction& t) {
    return t
        .one(
            "SELECT (SELECT count(*) FROM likes WHERE user = ?1),"
            " (SELECT count(*) FROM discussions WHERE author_id = ?1)",
            user.id)
        .value();
  });
  facts["numLikes"] = counts.integer(0);
  facts["numDiscussions"] = counts.integer(1);
  facts["numFollowers"] = facts["numFollowing"] = facts["numPapers"] = facts["numUpvotes"] = 0;
  facts["createdAt"] = iso8601(user.created_at);
  Json::Array orgs;
  for (const auto& member : call.services.accounts.orgs_of(user.id))
    orgs.push_back(org_facts(call, member.account));
  facts["orgs"] = orgs;
  return json_response(facts);
}

Response org_overview(Call& call) {
  Account org = require_account(call, call.captures.at("org"), true);
  Json::Object facts = org_facts(call, org);
  add_counts(call, org, facts);
  facts["numUsers"] = int64_t(call.services.accounts.members(org.id).size());
  facts["numFollowers"] = 0;
  facts["isVerified"] = false;
  return json_response(facts);
}

Response org_members(Call& call) {
  Account org = require_account(call, call.captures.at("org"), true);
  Json::Array page;
  for (const auto& member : call.services.accounts.members(org.id)) {
    Json::Object facts = user_facts(call, member.account.name, member.account.fullname);
    facts["role"] = std::string(to_string(member.role));
    page.push_back(facts);
  }
  return json_response(page);
}

// Nobody follows anybody here.
Response nobody(Call& call) {
  bool org = call.captures.named.contains("org");
  require_account(call, call.captures.at(org ? "org" : "user"), org);
  return json_response(Json::Array{});
}

// Every repository of a namespace with what it takes, for those who belong there.
Response owned_repos(Call& call, const Account& owner) {
  if (role_in(call.caller, owner) < Role::read)
    throw HttpError(403, "", "Only members of " + owner.name + " may see this");
  auto rows = call.services.database.read([&](Transaction& t) {
    return t.query(
        "SELECT id, type, name, updated_at, private, used_bytes FROM repos"
        " WHERE owner = ? AND id > ? AND disabled = 0 ORDER BY id LIMIT ?",
        owner.id, cursor_of(call), kPage);
  });
  Json::Array page;
  for (const auto& row : rows)
    page.push_back(
        Json::Object{{"id", owner.name + "/" + row.text(2)},
                     {"type", row.text(1)},
                     {"updatedAt", iso8601(row.integer(3))},
                     {"visibility", row.integer(4) ? "private" : "public"},
                     {"storage", row.integer(5)},
                     {"storagePercent", owner.quota_bytes && *owner.quota_bytes > 0
                                            ? double(row.integer(5)) / double(*owner.quota_bytes)
                                            : 0.0}});
  Response response = json_response(page);
  if (int64_t(rows.size()) == kPage)
    add_next_link(call, response, {{"cursor", std::to_string(rows.back().integer(0))}});
  return response;
}

Response my_repos(Call& call) { return owned_repos(call, require_user(call)); }
Response org_repos(Call& call) {
  require_user(call);
  return owned_repos(call, require_account(call, call.captures.at("org"), true));
}

}  // namespace

std::vector<Route<ApiHandler>> social_routes() {
  const std::string repo = kRepoPattern;
  const std::string access = repo + "/user-access-request";
  std::vector<Route<ApiHandler>> routes{
      {"POST", repo + "/like", like},
      {"DELETE", repo + "/like", unlike},
      {"GET", repo + "/likers", likers},
      {"POST", repo + "/ask-access", ask_access},
      {"GET", access + "/{status:pending|accepted|rejected}", requests},
      {"POST", access + "/handle", handle_request},
      {"POST", access + "/grant", grant},
      {"GET", "/api/users/{user}/overview", user_overview},
      {"GET", "/api/users/{user}/likes", liked},
      {"GET", "/api/users/{user}/{list:followers|following}", nobody},
      {"GET", "/api/organizations/{org}/overview", org_overview},
      {"GET", "/api/organizations/{org}/members", org_members},
      {"GET", "/api/organizations/{org}/followers", nobody},
      {"GET", "/api/organizations/{org}/settings/repositories", org_repos},
      {"GET", "/api/settings/repositories", my_repos},
  };
  for (const std::string& prefix : kWebPatterns)
    routes.push_back({"POST", prefix + "{name}/ask-access", ask_access});
  return routes;
}

}  // namespace pretrained::server
