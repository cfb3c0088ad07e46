// Every route of the table, asked by every kind of caller about a public, a gated and a private
// repository of an organisation. A route without a line here is a failure.

#include <gmock/gmock.h>

#include <set>

#include "server/api/changes.h"
#include "server/api/testing.h"
#include "server/repos/attachments.h"
#include "server/repos/discussions.h"

namespace pretrained::server {
namespace {

struct Who {
  std::string name, token;
  Caller caller;
};

// May this caller do that with this repository?
struct Subject {
  const Who& who;
  const Repo& repo;
  const Account& owner;
  bool granted;
  Role role() const { return role_on(who.caller, repo.access, granted); }
  Role role_in_namespace() const { return role_in(who.caller, owner); }
  bool writes() const { return who.caller.user && who.caller.token->role != "read"; }
  bool is(const char* name) const { return who.caller.user && who.caller.user->name == name; }
};
using Rule = bool (*)(const Subject&);

bool all(const Subject&) { return true; }
bool none(const Subject&) { return false; }
bool user(const Subject& s) { return s.who.caller.user.has_value(); }
bool user_write(const Subject& s) { return s.writes(); }
bool whole_user(const Subject& s) {  // a fine-grained token is for some repositories
  return user(s) && s.who.caller.token->role != "fineGrained";
}
bool people(const Subject& s) { return user(s) || s.who.caller.anonymous_role != Role::none; }
bool hub_admin(const Subject& s) { return user(s) && s.who.caller.user->is_admin; }
bool see(const Subject& s) { return may_see(s.who.caller, s.repo.access); }
bool user_sees(const Subject& s) { return see(s) && user(s); }
bool user_sees_write(const Subject& s) { return see(s) && user_write(s); }
bool read(const Subject& s) { return s.role() >= Role::read; }
bool propose(const Subject& s) {
  return may_open_pull_request(s.who.caller, s.repo.access, s.granted);
}
bool write_or_propose(const Subject& s) { return s.role() >= Role::write || propose(s); }
bool write(const Subject& s) { return s.role() >= Role::write; }
bool user_writes(const Subject& s) { return write(s) && user(s); }
bool admin(const Subject& s) { return s.role() >= Role::admin && user(s); }
bool author(const Subject& s) { return propose(s) && s.is("boss"); }
bool author_or_write(const Subject& s) { return propose(s) && (s.is("boss") || write(s)); }
bool member(const Subject& s) { return s.role_in_namespace() >= Role::read; }
bool create(const Subject& s) { return s.role_in_namespace() >= Role::write; }
bool administer(const Subject& s) { return s.role_in_namespace() >= Role::admin; }
bool administer_write(const Subject& s) { return administer(s) && s.writes(); }
bool move(const Subject& s) { return admin(s) && create(s); }
bool duplicate(const Subject& s) { return read(s) && create(s); }
bool upload_attachment(const Subject& s) {
  bool nowhere = s.who.caller.token && s.who.caller.token->role == "fineGrained";
  if (nowhere)
    for (const auto& [scope, role] : s.who.caller.token->scopes) nowhere &= role < Role::write;
  return user_write(s) && !nowhere;
}
bool delete_attachment(const Subject& s) {
  return upload_attachment(s) && (s.is("boss") || s.who.caller.user->is_admin);
}

// "@" is the repository's name; what is sent is wrong or empty where that is found out only after
// who asks, so that little happens.
struct Sample {
  std::string method, target;
  Rule rule;
  std::string body = "{}";
  std::string type = "model";
  bool uses_up = false;
};

class PermissionsTest : public HubTest {
 protected:
  PermissionsTest() {
    for (Role role : {Role::none, Role::write}) {
      AppOptions options = quiet();
      options.anonymous = role;
      others_[role] = std::make_unique<App>(
          Services{database, blobs, accounts, git, content, repos, options, std::string(32, 'k')});
    }
    for (auto* name : {"boss", "pending", "accepted", "reader", "writer"})
      ids_[name] = accounts.create_user(name).id;
    acme_ = accounts.create_org("acme", "", ids_["boss"]);
    accounts.set_member(acme_.id, ids_["reader"], Role::read);
    accounts.set_member(acme_.id, ids_["writer"], Role::write);
    ids_["root"] = accounts.create_user("root", "", true).id;
    add("anonymous", "");
    add("other user", bob_token);
    for (auto* name : {"pending", "accepted", "reader", "writer", "boss", "root"})
      add(name, accounts.create_token(ids_[name], "t", "write").secret);
    add("read token", accounts.create_token(ids_["boss"], "r", "read").secret);
    admin_ = *accounts.authenticate(accounts.create_token(ids_["boss"], "a", "write").secret);
    for (auto [name, role] : std::map<std::string, Role>{{"scope read", Role::read},
                                                         {"scope write", Role::write},
                                                         {"scope admin", Role::admin}})
      add(name, scoped(name, role, {"public", "gated", "private"}));
    add("scope elsewhere", scoped("scope elsewhere", Role::admin, {"elsewhere"}));
    for (auto* type : {"model", "dataset"})
      for (auto* kind : {"public", "gated", "private"}) make(type, kind, kind);
  }

  void add(const std::string& name, const std::string& token) {
    who_.push_back({name, token, token.empty() ? Caller() : *accounts.authenticate(token)});
  }
  std::string scoped(const std::string& name, Role role, const std::vector<std::string>& repos) {
    std::map<std::string, Role> scopes;
    for (auto* type : {"model", "dataset"})
      for (auto& repo : repos) scopes[std::string(type) + "/acme/" + repo] = role;
    return accounts.create_token(ids_["boss"], name, "fineGrained", scopes).secret;
  }

  Repo make(const std::string& type, const std::string& name, const std::string& kind) {
    Repo repo = repos.create(admin_, type, acme_, name, kind == "private");
    Discussions(database, git, repos).open(admin_, repo, "title", "text");
    if (kind == "gated") {
      repos.set_gated(repo, "manual");
      database.write([&](Transaction& t) {
        for (auto* status : {"pending", "accepted"})
          t.run("INSERT INTO access_requests (repo, user, status, at) VALUES (?, ?, ?, 1)",
                repo.access.id, ids_[status], status);
      });
    }
    return *repos.find(repo.access.id);
  }
  static std::vector<Sample> samples();

  std::string new_webhook() {
    return database.write([&](Transaction& t) {
      t.run("INSERT INTO webhooks (owner, url, secret, events) VALUES (?, 'https://x/', '', '[]')",
            acme_.id);
      return std::to_string(t.last_id());
    });
  }
  std::string new_attachment() {
    StringBody body("x");
    return Attachments(database, blobs)
        .store(*admin_.user, *attachment_kind("image/png"),
               [&](char* data, size_t size) { return body.read(data, size); })
        .name;
  }
  std::string first_comment(const std::string& repo) {
    auto row = database.read([&](Transaction& t) {
      return t.one(
          "SELECT e.id FROM discussion_events e JOIN repos r ON r.id = e.repo WHERE r.name = ? AND "
          "r.type = 'model'",
          repo);
    });
    return row ? row->text(0) : std::string(24, '0');
  }
  std::string filled(std::string text, const std::string& repo) {
    auto put = [&](const std::string& mark, const std::function<std::string()>& what) {
      for (size_t at; (at = text.find(mark)) != text.npos;) text.replace(at, mark.size(), what());
    };
    put("@", [&] { return repo; });
    put("{webhook}", [&] { return new_webhook(); });
    put("{attachment}", [&] { return new_attachment(); });
    put("{comment}", [&] { return first_comment(repo); });
    return text;
  }

  Answer send(App& app, const Sample& sample, const std::string& name, const std::string& token) {
    Request request;
    request.method = sample.method;
    request.set_target(filled(sample.target, name));
    request.base_url = "http://hub.test";
    request.remote_address = "192.0.2.1";
    request.body = std::make_shared<StringBody>(filled(sample.body, name));
    request.headers.set("Content-Type", "application/json");
    if (!token.empty()) request.headers.set("Authorization", "Bearer " + token);
    Response response = app.handle(request);
    auto* text = std::get_if<std::string>(&response.body);
    return {response.status, response.headers, text ? *text : ""};
  }

  void check(App& app, const Sample& sample, const Who& who, const std::string& kind) {
    std::string name = kind;
    if (sample.uses_up) name = "used-up-" + std::to_string(++used_up_);
    Repo repo =
        sample.uses_up ? make(sample.type, name, kind) : *repos.find(sample.type, "acme", kind);
    Subject subject{who, repo, acme_, repos.access_granted(repo, who.caller)};
    Answer answer = send(app, sample, name, who.token);
    bool refused = answer.status == 401 || answer.status == 403 ||
                   answer.header("X-Error-Code") == "RepoNotFound" ||
                   answer.body.find("Webhook not found") != std::string::npos;
    std::string what = sample.method + " " + sample.target + " of a " + kind + " " + sample.type +
                       " by " + who.name + ": " + std::to_string(answer.status) + " " + answer.body;
    EXPECT_EQ(refused, !sample.rule(subject)) << what;
    EXPECT_NE(answer.status, 500) << what;
    bool about_it =
        sample.target.find('@') != sample.target.npos || sample.body.find('@') != sample.body.npos;
    if (!about_it || see(subject)) return;
    // What may not be seen looks as if it was not there.
    Answer absent = send(app, sample, "absent", who.token);
    EXPECT_EQ(answer.status, absent.status) << what;
    EXPECT_EQ(answer.header("X-Error-Code"), absent.header("X-Error-Code")) << what;
    EXPECT_EQ(answer.header("WWW-Authenticate"), absent.header("WWW-Authenticate")) << what;
  }

  std::map<Role, std::unique_ptr<App>> others_;  // by what nobody may do
  std::map<std::string, int64_t> ids_;
  Account acme_;
  Caller admin_;
  std::vector<Who> who_;
  int used_up_ = 0;
};

std::vector<Sample> PermissionsTest::samples() {
  const std::string oid(64, '0');
  std::vector<Sample> list = {
      // accounts
      {"GET", "/api/whoami-v2", user},
      {"POST", "/oauth/device", all},
      {"POST", "/oauth/token", all},
      {"GET", "/oauth/approve", all},
      {"POST", "/oauth/approve", none},  // the form is not ours; device_login_test has the rest
      {"GET", "/api/users/boss/overview", people},
      {"GET", "/api/users/boss/likes", people},
      {"GET", "/api/users/boss/followers", people},
      {"GET", "/api/organizations/acme/overview", people},
      {"GET", "/api/organizations/acme/members", people},
      {"GET", "/api/organizations/acme/followers", people},
      {"GET", "/api/organizations/acme/settings/repositories", member},
      {"GET", "/api/settings/repositories", whole_user},
      // webhooks of the organisation
      {"GET", "/api/settings/webhooks", user},
      {"POST", "/api/settings/webhooks", administer_write,
       R"({"watched": [{"type": "org", "name": "acme"}], "url": "x"})"},
      {"POST", "/api/settings/webhooks", admin,
       R"({"watched": [{"type": "model", "name": "acme/@"}], "url": "x"})"},
      {"GET", "/api/settings/webhooks/{webhook}", administer},
      {"POST", "/api/settings/webhooks/{webhook}", administer_write},
      {"POST", "/api/settings/webhooks/{webhook}/enable", administer_write},
      {"DELETE", "/api/settings/webhooks/{webhook}", administer_write},
      // attachments
      {"POST", "/uploads", upload_attachment},
      {"GET", "/uploads/{attachment}", people},
      {"DELETE", "/uploads/{attachment}", delete_attachment},
      // the rest
      {"POST", "/api/validate-yaml", all},
      {"GET", "/api/agent-harnesses", all},
      {"GET", "/api/telemetry/x", all},
      {"GET", "/api/models-tags-by-type", all},
      {"GET", "/healthz", all},
      {"GET", "/metrics", hub_admin},
      {"GET", "/favicon.ico", all},
      {"GET", "/robots.txt", all},
      {"GET", "/api/models", all},
      // repositories that the body names
      {"POST", "/api/repos/create", create, R"({"organization": "acme", "name": "a b"})"},
      {"POST", "/api/repos/move", move, R"({"fromRepo": "acme/@", "toRepo": "acme/a b"})"},
      // addresses and tokens that the hub gave
      {"PUT", "/api/lfs/objects/1/" + oid + "/5", none},
      {"GET", "/api/lfs/objects/1/" + oid + "/5", none},
      {"PUT", "/api/lfs/multipart/x/1", none},
      {"POST", "/api/lfs/multipart/x", none},
      {"POST", "/api/lfs/verify/1", none},
      {"GET", "/xet/v1/chunks/default/" + oid, none},
      {"POST", "/xet/v1/xorbs/default/" + oid, none},
      {"GET", "/xet/v1/xorbs/default/" + oid, none},
      {"POST", "/xet/v1/shards", none},
      {"POST", "/xet/v2/shards", none},
      {"GET", "/xet/v2/reconstructions/" + oid, none},
      {"POST", "/xet/v1/reconstructions", none},
      {"GET", "/xet/v1/files/" + oid, none},
      {"GET", "/xet/fetch/" + oid + "/0/1", none},
  };
  // Below /api/models/acme/@
  for (const Sample& sample : std::vector<Sample>{
           {"GET", "", see},
           {"GET", "/revision/main", see},
           {"GET", "/tree/main", read},
           {"POST", "/paths-info/main", read},
           {"GET", "/safetensors-metadata/model.safetensors.index.json", read},
           {"GET", "/auth-check", read},
           {"GET", "/auth-check/write", write},
           {"PUT", "/settings", admin},
           {"POST", "/duplicate", duplicate, R"({"repository": "acme/a b"})"},
           {"GET", "/commits/main", read},
           {"GET", "/refs", read},
           {"GET", "/compare/main..main", read},
           {"POST", "/branch/HEAD", write},
           {"DELETE", "/branch/absent", write},
           {"POST", "/tag/main", write},
           {"DELETE", "/tag/absent", write},
           {"POST", "/super-squash/absent", write},
           {"POST", "/preupload/main", write},
           {"POST", "/preupload/main?create_pr=1", write_or_propose},
           {"POST", "/commit/main", write, "x"},
           {"POST", "/commit/main?create_pr=1", write_or_propose, "x"},
           {"POST", "/commit/refs%2Fpr%2F9", write, "x"},
           {"GET", "/xet-read-token/main", read},
           {"GET", "/xet-write-token/main", write},
           {"GET", "/xet-write-token/main?create_pr=1", write_or_propose},
           {"GET", "/lfs-files", read},
           {"POST", "/lfs-files/batch", write},
           {"POST", "/lfs-files/duplicate", write_or_propose,
            R"({"target": {"type": "model", "name": "acme/@"}})"},
           {"GET", "/discussions", read},
           {"POST", "/discussions", propose},
           {"GET", "/discussions/1", read},
           {"POST", "/discussions/1/comment", propose},
           {"POST", "/discussions/1/comment/{comment}/edit", author},
           {"POST", "/discussions/1/comment/{comment}/hide", author_or_write},
           {"POST", "/discussions/1/title", author_or_write},
           {"POST", "/discussions/1/status", author_or_write},
           {"POST", "/discussions/9/merge", write},
           {"POST", "/like", user_sees_write},
           {"DELETE", "/like", user_sees_write},
           {"GET", "/likers", see},
           {"POST", "/ask-access", user_sees},
           {"GET", "/user-access-request/pending", write},
           {"POST", "/user-access-request/handle", write},
           {"POST", "/user-access-request/grant", write},
       }) {
    list.push_back(sample);
    list.back().target = "/api/models/acme/@" + sample.target;
  }
  // Below the address that people see, of models and of the other types.
  for (std::string prefix : {"", "/datasets"})
    for (std::string suffix : {"", ".git"}) {
      std::string path = prefix + "/acme/@" + suffix, lfs = path + "/info/lfs";
      size_t first = list.size();
      if (suffix.empty())
        for (const Sample& sample : std::vector<Sample>{{"GET", "/resolve/main/x", read},
                                                        {"GET", "/raw/main/x", read},
                                                        {"POST", "/ask-access", user_sees}})
          list.push_back(sample);
      for (const Sample& sample : std::vector<Sample>{
               {"GET", "/info/refs?service=git-upload-pack", read},
               {"GET", "/info/refs?service=git-receive-pack", write_or_propose},
               {"POST", "/git-upload-pack", read, "0000"},
               {"POST", "/git-receive-pack", write_or_propose, "0000"},
               {"POST", "/info/lfs/objects/batch", read,
                R"({"operation": "download", "objects": []})"},
               {"POST", "/info/lfs/objects/batch", write,
                R"({"operation": "upload", "objects": [], "ref": {"name": "refs/heads/main"}})"},
               {"POST", "/info/lfs/objects/batch", write_or_propose,
                R"({"operation": "upload", "objects": []})"},
               {"GET", "/info/lfs/locks", read},
               {"POST", "/info/lfs/locks", user_writes},
               {"POST", "/info/lfs/locks/verify", write},
               {"POST", "/info/lfs/locks/9/unlock", user_writes}})
        list.push_back(sample);
      for (; first < list.size(); ++first) {
        list[first].target = path + list[first].target;
        list[first].type = prefix.empty() ? "model" : "dataset";
      }
    }
  list.push_back({"DELETE", "/api/repos/delete", admin, R"({"organization": "acme", "name": "@"})",
                  "model", true});
  return list;
}

TEST_F(PermissionsTest, EveryRouteHasALine) {
  Router<ApiHandler> router(all_routes());
  std::set<std::string> known, routes;
  auto name = [](const Route<ApiHandler>& route) { return route.method + " " + route.pattern; };
  for (const auto& sample : samples()) {
    Request request;
    request.set_target(filled(sample.target, "public"));
    auto match = router.find(sample.method, request.segments);
    ASSERT_TRUE(match.route) << sample.method << " " << sample.target;
    known.insert(name(*match.route));
  }
  for (const auto& route : all_routes()) routes.insert(name(route));
  EXPECT_EQ(routes, known);
}

TEST_F(PermissionsTest, EveryRouteAsksWhoCalls) {
  for (const auto& sample : samples())
    for (auto* kind : {"public", "gated", "private"})
      for (const auto& who : who_) check(app, sample, who, kind);
}

TEST_F(PermissionsTest, WhatNobodyMayDoIsAnOption) {
  Who nobody = who_.front();
  for (auto& [role, other] : others_) {
    nobody.caller.anonymous_role = role;
    nobody.name = "anonymous with " + std::string(to_string(role));
    for (const auto& sample : samples())
      for (auto* kind : {"public", "gated", "private"}) check(*other, sample, nobody, kind);
  }
}

}  // namespace
}  // namespace pretrained::server
