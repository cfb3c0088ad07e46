#include <gmock/gmock.h>

#include <filesystem>
#include <functional>
#include <sstream>

#include "pretrained/base/files.h"
#include "server/accounts/accounts.h"

// docs/permissions.md says who may do what; every cell of it is checked here.

namespace pretrained::server {
namespace {

constexpr int64_t kOwner = 1, kOther = 2, kOrg = 3, kRepo = 9;

Caller user(int64_t id) {
  Caller caller;
  caller.user = Account{.id = id, .name = "someone"};
  return caller;
}
Caller nobody(Role role) {
  Caller caller;
  caller.anonymous_role = role;
  return caller;
}
Caller member(Role role) {
  Caller caller = user(kOther);
  caller.orgs[kOrg] = role;
  return caller;
}
Caller with_token(Caller caller, const std::string& role, std::map<std::string, Role> scopes = {}) {
  caller.token = Token{.user = caller.user->id, .role = role, .scopes = std::move(scopes)};
  return caller;
}
Caller with_scope(Caller caller, Role role, const std::string& scope = "model/Org/Name") {
  return with_token(std::move(caller), "fineGrained", {{scope, role}});
}
Caller hub_admin() {
  Caller caller = user(kOther);
  caller.user->is_admin = true;
  return caller;
}
Caller disabled() {
  Caller caller = hub_admin();
  caller.user->disabled = true;
  caller.orgs[kOrg] = Role::admin;
  return caller;
}

struct Who {
  Caller caller;
  int64_t owner = kOrg;
  bool granted = false;
};
const std::map<std::string, Who>& callers() {
  static const std::map<std::string, Who> all = {
      {"anonymous", {nobody(Role::read)}},
      {"anonymous, `--anonymous none`", {nobody(Role::none)}},
      {"anonymous, `--anonymous write`", {nobody(Role::write)}},
      {"other user", {user(kOther)}},
      {"other user, gated: request pending", {user(kOther)}},
      {"other user, gated: request accepted", {user(kOther), kOrg, true}},
      {"member of the organisation: read", {member(Role::read)}},
      {"member of the organisation: write", {with_token(member(Role::write), "write")}},
      {"member of the organisation: admin", {with_token(member(Role::admin), "write")}},
      {"owner", {with_token(user(kOwner), "write"), kOwner}},
      {"hub admin", {with_token(hub_admin(), "write")}},
      {"owner, read token", {with_token(user(kOwner), "read"), kOwner}},
      {"owner, fine-grained token: another repository",
       {with_scope(user(kOwner), Role::admin, "model/org/other"), kOwner}},
      {"owner, fine-grained token: read", {with_scope(user(kOwner), Role::read), kOwner}},
      {"owner, fine-grained token: write", {with_scope(user(kOwner), Role::write), kOwner}},
      {"owner, fine-grained token: admin", {with_scope(user(kOwner), Role::admin), kOwner}},
      {"other user, fine-grained token: admin", {with_scope(user(kOther), Role::admin)}},
      {"disabled account", {with_token(disabled(), "write"), kOther, true}},
  };
  return all;
}

using Rule = std::function<bool(const Who&, const RepoAccess&)>;
Rule at_least(Role role) {
  return [role](const Who& who, const RepoAccess& repo) {
    return role_on(who.caller, repo, who.granted && !repo.gated.empty()) >= role;
  };
}
const std::map<std::string, Rule>& rules() {
  static const std::map<std::string, Rule> all = {
      {"see, list",
       [](const Who& who, const RepoAccess& repo) { return may_see(who.caller, repo); }},
      {"read", at_least(Role::read)},
      {"write", at_least(Role::write)},
      {"settings", at_least(Role::admin)},
      {"delete", at_least(Role::admin)},
      {"open PR",
       [](const Who& who, const RepoAccess& repo) {
         return may_open_pull_request(who.caller, repo, who.granted && !repo.gated.empty());
       }},
      {"merge PR", at_least(Role::write)},
      {"git fetch", at_least(Role::read)},
      {"git push", at_least(Role::write)},
      {"LFS download", at_least(Role::read)},
      {"LFS upload", at_least(Role::write)},
      {"Xet read", at_least(Role::read)},
      {"Xet write", at_least(Role::write)},
  };
  return all;
}

// "all", "–" or a list, as the page has it.
std::string cell_of(const Rule& rule, const Who& who) {
  RepoAccess repo{kRepo, who.owner, "model", "Org", "Name"};
  std::vector<std::string> kinds;
  if (rule(who, repo)) kinds.push_back("public");
  repo.gated = "manual";
  if (rule(who, repo)) kinds.push_back("gated");
  repo.gated = "";
  repo.is_private = true;
  if (rule(who, repo)) kinds.push_back("private");
  if (kinds.size() == 3) return "all";
  std::string text;
  for (auto& kind : kinds) text += (text.empty() ? "" : ", ") + kind;
  return text.empty() ? "–" : text;
}

using Table = std::vector<std::vector<std::string>>;

// The tables of the page; the line under the heads is left out.
std::vector<Table> tables_of(const std::string& text) {
  std::vector<Table> tables;
  bool inside = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("|")) {
      inside = false;
      continue;
    }
    if (!inside) tables.emplace_back();
    inside = true;
    if (line.starts_with("| ---")) continue;
    std::vector<std::string> cells;
    for (size_t at = 1, end; (end = line.find('|', at)) != line.npos; at = end + 1)
      cells.push_back(line.substr(at + 1, end - at - 2));
    tables.back().push_back(cells);
  }
  return tables;
}

std::vector<Table> page() {
  auto root = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
  return tables_of(read_file(root / "docs/permissions.md"));
}

TEST(Permissions, EveryCellOfThePageIsTrue) {
  Table table = page().at(0);
  ASSERT_EQ(table[0].size(), rules().size() + 1);
  ASSERT_EQ(table.size(), callers().size() + 1) << "every caller has its line";
  for (size_t row = 1; row < table.size(); row++) {
    ASSERT_EQ(callers().count(table[row][0]), 1u) << table[row][0];
    ASSERT_EQ(table[row].size(), table[0].size()) << table[row][0];
    for (size_t column = 1; column < table[row].size(); column++) {
      ASSERT_EQ(rules().count(table[0][column]), 1u) << table[0][column];
      EXPECT_EQ(table[row][column],
                cell_of(rules().at(table[0][column]), callers().at(table[row][0])))
          << table[row][0] << " | " << table[0][column];
    }
  }
}

TEST(Permissions, EveryCellOfTheNamespacesIsTrue) {
  Table table = page().at(1);
  ASSERT_EQ(table[0].size(), 3u);
  ASSERT_EQ(table.size(), 12u);
  for (size_t row = 1; row < table.size(); row++) {
    ASSERT_EQ(callers().count(table[row][0]), 1u) << table[row][0];
    auto& who = callers().at(table[row][0]);
    Role role = role_in(who.caller, Account{.id = who.owner});
    EXPECT_EQ(table[row][1], role >= Role::write ? "yes" : "–") << table[row][0];
    EXPECT_EQ(table[row][2], role >= Role::admin ? "yes" : "–") << table[row][0];
  }
}

TEST(Permissions, WhatStandsBelowTheTable) {
  RepoAccess repo{kRepo, kOrg, "model", "Org", "Name"};
  // A token never gives more than its user has, whoever the user is, whatever it says.
  for (auto& [name, who] : callers()) {
    if (!who.caller.user) continue;
    Caller bare = who.caller;
    bare.token.reset();
    for (Role scope : {Role::read, Role::write, Role::admin})
      for (std::string gated : {"", "auto"})
        for (bool is_private : {false, true}) {
          repo.gated = gated;
          repo.is_private = is_private;
          Role most = role_on(bare, repo, true);
          EXPECT_LE(role_on(with_scope(bare, scope), repo, true), most) << name;
          EXPECT_EQ(role_on(with_token(bare, "write"), repo, true), most) << name;
          EXPECT_EQ(role_on(with_token(bare, "read"), repo, true), std::min(most, Role::read));
        }
  }
  repo = {kRepo, kOrg, "model", "Org", "Name"};
  // Accepted requests open the gate, not a private repository.
  repo.is_private = true;
  repo.gated = "auto";
  EXPECT_EQ(role_on(user(kOther), repo, true), Role::none);
  EXPECT_FALSE(may_see(user(kOther), repo));
  repo = {kRepo, kOrg, "model", "Org", "Name"};
  // Scopes: the type counts, the case does not; a token of an unknown role gives nothing of its
  // own.
  Caller admin = member(Role::admin);
  EXPECT_EQ(role_on(with_scope(admin, Role::admin, "dataset/Org/Name"), repo), Role::read);
  EXPECT_EQ(role_on(with_scope(admin, Role::admin, "model/oRG/nAME"), repo), Role::admin);
  EXPECT_EQ(role_on(with_token(admin, "?"), repo), Role::read);
  // Signed in is never less than anonymous.
  Caller other = user(kOther);
  other.anonymous_role = Role::write;
  EXPECT_EQ(role_on(other, repo), Role::write);
  EXPECT_EQ(role_on(with_token(other, "read"), repo), Role::read);
  other.anonymous_role = Role::none;
  EXPECT_EQ(role_on(other, repo), Role::read);
  // A disabled repository.
  repo.disabled = true;
  EXPECT_EQ(role_on(admin, repo), Role::none);
  EXPECT_TRUE(may_see(admin, repo));
  EXPECT_FALSE(may_open_pull_request(admin, repo));
  EXPECT_EQ(role_on(hub_admin(), repo), Role::admin);
  repo.is_private = true;
  EXPECT_FALSE(may_see(user(kOther), repo));
}

TEST(Permissions, RolesByName) {
  for (Role role : {Role::none, Role::read, Role::write, Role::admin})
    EXPECT_EQ(parse_role(to_string(role)), role);
  EXPECT_EQ(parse_role("Admin"), std::nullopt);
  EXPECT_EQ(parse_role(""), std::nullopt);
}

}  // namespace
}  // namespace pretrained::server
