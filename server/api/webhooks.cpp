// Webhooks: each watches one repository, or all of one user or organisation, and belongs to those
// who administer that.

#include <set>

#include "server/api/common.h"
#include "server/repos/webhooks.h"

namespace pretrained::server {
namespace {

constexpr int64_t kMostPerOwner = 100;

struct Watched {
  int64_t owner;
  std::optional<int64_t> repo;
};

Watched require_watched(Call& call, const Json& body) {
  const Json* field = body.find("watched");
  auto list = field ? field->get_if<Json::Array>() : nullptr;
  if (!list || list->size() != 1)
    throw HttpError(400, "",
                    "field 'watched': expected a list of one item; make a webhook for each");
  const Json& item = (*list)[0];
  std::string type = string_field(item, "type"), name = string_field(item, "name");
  auto refuse = [&] {
    throw HttpError(403, "",
                    "You may not watch " + printable(type) + " " + printable(name) +
                        ": this needs admin access to it");
  };
  if (type == "user" || type == "org") {
    auto owner = call.services.accounts.find(name);
    if (!owner || owner->is_org != (type == "org") || role_in(call.caller, *owner) < Role::admin)
      refuse();
    return {owner->id, std::nullopt};
  }
  size_t slash = name.find('/');
  auto repo = slash == name.npos
                  ? std::nullopt
                  : call.services.repos.find(type, name.substr(0, slash), name.substr(slash + 1));
  if (!repo || role_on(call.caller, repo->access, true) < Role::admin) refuse();
  return {repo->access.owner, repo->access.id};
}

std::string domains_field(const Json& body) {
  const Json* field = body.find("domains");
  if (!field || field->is_null()) return R"(["repo", "discussion"])";
  auto list = field->get_if<Json::Array>();
  std::set<std::string> known;
  for (const auto& item : list ? *list : Json::Array{}) {
    auto text = item.get_if<std::string>();
    if (!text || (*text != "repo" && *text != "discussion")) list = nullptr;
    if (!list) break;
    known.insert(*text);
  }
  if (!list || known.empty())
    throw HttpError(400, "", "field 'domains': expected a list of \"repo\" and \"discussion\"");
  return Json(Json::Array(known.begin(), known.end())).dump(0);
}

std::string secret_field(const Json& body) {
  std::string secret = optional_string_field(body, "secret").value_or("");
  // It goes into a header.
  for (char c : secret)
    if (c < ' ' || c > '~') throw HttpError(400, "", "field 'secret': expected printable ASCII");
  if (secret.size() > 256) throw HttpError(400, "", "field 'secret': longer than 256 bytes");
  return secret;
}

std::string url_field(const Json& body) {
  std::string url = string_field(body, "url");
  check_webhook_url(url);
  return url;
}

constexpr const char* kSelect =
    "SELECT w.id, w.url, w.secret, w.events, w.active, w.repo, a.name, a.kind, w.owner"
    " FROM webhooks w JOIN accounts a ON a.id = w.owner ";

Json facts(Call& call, const Row& row) {
  Json watched = Json::Object{{"type", row.text(7)}, {"name", row.text(6)}};
  if (auto id = row.optional_integer(5)) {
    auto repo = call.services.repos.find(*id);
    if (repo) watched = Json::Object{{"type", repo->access.type}, {"name", repo->full_name()}};
  }
  return Json::Object{{"id", std::to_string(row.integer(0))},
                      {"url", row.text(1)},
                      {"secret", row.text(2).empty() ? Json() : Json(row.text(2))},
                      {"domains", Json::parse(row.text(3), "webhooks.events")},
                      {"disabled", row.integer(4) == 0},
                      {"watched", Json::Array{watched}}};
}

// Whose webhooks these are: of an account with admin rights to it, of a repository likewise.
bool may_manage(Call& call, const Row& row) {
  if (auto id = row.optional_integer(5)) {
    auto repo = call.services.repos.find(*id);
    return repo && role_on(call.caller, repo->access, true) >= Role::admin;
  }
  auto owner = call.services.accounts.find(row.integer(8));
  return owner && role_in(call.caller, *owner) >= Role::admin;
}

Row require_webhook(Call& call) {
  require_user(call, call.request.method != "GET" && call.request.method != "HEAD");
  const std::string& id = call.captures.at("webhook");
  bool number = !id.empty() && id.size() < 18 && id.find_first_not_of("0123456789") == id.npos;
  auto row = number ? call.services.database.read([&](Transaction& t) {
    return t.one(std::string(kSelect) + "WHERE w.id = ?", int64_t(std::stoll(id)));
  })
                    : std::nullopt;
  if (!row || !may_manage(call, *row)) throw HttpError(404, "", "Webhook not found");
  return *row;
}

Response answer(Call& call, int64_t id) {
  auto row = call.services.database.read(
      [&](Transaction& t) { return t.one(std::string(kSelect) + "WHERE w.id = ?", id); });
  if (!row) throw HttpError(404, "", "Webhook not found");
  return json_response(Json::Object{{"webhook", facts(call, *row)}});
}

Response list(Call& call) {
  const Account& user = require_user(call);
  std::vector<int64_t> owners{user.id};
  for (const auto& [org, role] : call.caller.orgs) owners.push_back(org);
  Json::Array all;
  for (int64_t owner : owners) {
    auto rows = call.services.database.read([&](Transaction& t) {
      return t.query(std::string(kSelect) + "WHERE w.owner = ? ORDER BY w.id", owner);
    });
    for (const auto& row : rows)
      if (may_manage(call, row)) all.push_back(facts(call, row));
  }
  return json_response(all);
}

Response create(Call& call) {
  require_user(call, true);
  Json body = read_json(call);
  Watched watched = require_watched(call, body);
  std::string url = url_field(body), secret = secret_field(body), domains = domains_field(body);
  int64_t id = call.services.database.write([&](Transaction& t) {
    auto count = t.one("SELECT count(*) FROM webhooks WHERE owner = ?", watched.owner);
    if (count->integer(0) >= kMostPerOwner)
      throw HttpError(400, "",
                      "At most " + std::to_string(kMostPerOwner) + " webhooks a namespace");
    t.run("INSERT INTO webhooks (owner, repo, url, secret, events) VALUES (?, ?, ?, ?, ?)",
          watched.owner, watched.repo, url, secret, domains);
    return t.last_id();
  });
  call.services.accounts.audit(call.caller, "webhook.create", std::to_string(id), url);
  return answer(call, id);
}

Response show(Call& call) { return answer(call, require_webhook(call).integer(0)); }

Response update(Call& call) {
  Row row = require_webhook(call);
  Json body = read_json(call);
  auto given = [&](const char* name) {
    const Json* field = body.find(name);
    return field && !field->is_null();
  };
  Watched watched{row.integer(8), row.optional_integer(5)};
  if (given("watched")) watched = require_watched(call, body);
  std::string url = given("url") ? url_field(body) : row.text(1);
  std::string secret = given("secret") ? secret_field(body) : row.text(2);
  std::string domains = given("domains") ? domains_field(body) : row.text(3);
  call.services.database.write([&](Transaction& t) {
    t.run("UPDATE webhooks SET owner = ?, repo = ?, url = ?, secret = ?, events = ? WHERE id = ?",
          watched.owner, watched.repo, url, secret, domains, row.integer(0));
  });
  call.services.accounts.audit(call.caller, "webhook.update", std::to_string(row.integer(0)), url);
  return answer(call, row.integer(0));
}

Response set_active(Call& call) {
  int64_t id = require_webhook(call).integer(0);
  bool active = call.captures.at("action") == "enable";
  call.services.database.write(
      [&](Transaction& t) { t.run("UPDATE webhooks SET active = ? WHERE id = ?", active, id); });
  return answer(call, id);
}

Response remove(Call& call) {
  int64_t id = require_webhook(call).integer(0);
  call.services.database.write(
      [&](Transaction& t) { t.run("DELETE FROM webhooks WHERE id = ?", id); });
  call.services.accounts.audit(call.caller, "webhook.delete", std::to_string(id));
  return json_response(Json::Object{});
}

}  // namespace

std::vector<Route<ApiHandler>> webhook_routes() {
  const std::string all = "/api/settings/webhooks";
  return {
      {"GET", all, list},
      {"POST", all, create},
      {"GET", all + "/{webhook}", show},
      {"POST", all + "/{webhook}", update},
      {"DELETE", all + "/{webhook}", remove},
      {"POST", all + "/{webhook}/{action:enable|disable}", set_active},
  };
}

}  // namespace pretrained::server
