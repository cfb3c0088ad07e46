#include "server/accounts/accounts.h"

#include <algorithm>
#include <set>

#include "server/accounts/rows.h"

namespace pretrained::server {
namespace {

// First parts of addresses that are no namespace, in the hub and in the sites that clients know.
const std::set<std::string, std::less<>> kReserved = {
    "anonymous",   "api",     "assets",   "blog",   "buckets",       "cas",
    "collections", "connect", "datasets", "device", "docs",          "join",
    "healthz",     "kernels", "lfs",      "login",  "logout",        "models",
    "metrics",     "new",     "oauth",    "papers", "organizations", "posts",
    "settings",    "spaces",  "static",   "tasks",  "uploads",       "v1",
    "v2",          "xet"};

void check_name(const std::string& name) {
  if (!is_name(name))
    throw ArgumentError("account name '" + printable(name) +
                        "': expected 1 to 96 letters, digits, '.', '_' or '-', no '-' or '.' at an "
                        "end, no '--', no '..', no '.git' at the end");
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  if (kReserved.count(lower))
    throw ArgumentError("account name '" + name + "': reserved for the hub's own addresses");
}

void check_text(const std::string& what, const std::string& text) {
  if (text.size() > 200 || printable(text, 1000) != text)
    throw ArgumentError(what + " '" + printable(text) +
                        "': expected at most 200 bytes of UTF-8 without control characters");
}

Account add_account(Transaction& t, const std::string& kind, const std::string& name,
                    const std::string& fullname, const std::string& email, bool is_admin) {
  if (t.one("SELECT 1 FROM accounts WHERE name = ?", name))
    throw ConflictError("an account named '" + name + "' exists already");
  t.run(
      "INSERT INTO accounts (id, kind, name, fullname, email, is_admin, created_at) "
      "VALUES (?, ?, ?, ?, ?, ?, ?)",
      fresh_id(t, "accounts"), kind, name, fullname, email, is_admin, now_ms());
  return *account_by_id(t, t.last_id());
}

void add_member(Transaction& t, int64_t org, int64_t user, Role role) {
  if (role == Role::none) throw ArgumentError("a member's role is read, write or admin");
  t.run("INSERT INTO members VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET role = excluded.role", org,
        user, to_string(role));
}

std::vector<Accounts::Member> members_where(Database& database, std::string_view condition,
                                            int64_t id) {
  return database.read([&](Transaction& t) {
    std::vector<Accounts::Member> members;
    std::string sql = select_account(", members.role FROM members JOIN accounts ") +
                      std::string(condition) + " ORDER BY accounts.name";
    t.each_values(sql, {id}, [&](const Row& row) {
      members.push_back({account_of(row), role_of(row.text(kAccountWidth))});
      return true;
    });
    return members;
  });
}

void require_changed(int64_t rows, int64_t account) {
  if (rows == 0) throw NotFoundError("there is no account number " + std::to_string(account));
}

}  // namespace

bool is_name(std::string_view name) {
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  auto inner = [](char c) { return c == '-' || c == '.'; };
  return !name.empty() && name.size() <= 96 && std::all_of(name.begin(), name.end(), allowed) &&
         !inner(name.front()) && !inner(name.back()) && name.find("--") == name.npos &&
         name.find("..") == name.npos && !name.ends_with(".git");
}

Account account_of(const Row& row) {
  Account account;
  account.id = row.integer(0);
  account.is_org = row.text(1) == "org";
  account.name = row.text(2);
  account.fullname = row.text(3);
  account.email = row.text(4);
  account.is_admin = row.integer(5) != 0;
  account.disabled = row.integer(6) != 0;
  account.quota_bytes = row.optional_integer(7);
  account.created_at = row.integer(8);
  return account;
}

std::string select_account(std::string_view more) {
  return "SELECT " + std::string(kAccountColumns) + std::string(more);
}

std::optional<Account> account_by_id(Transaction& t, int64_t id) {
  auto row = t.one(select_account(" FROM accounts WHERE id = ?"), id);
  return row ? std::optional(account_of(*row)) : std::nullopt;
}

Account require_user(Transaction& t, int64_t id) {
  auto account = account_by_id(t, id);
  if (!account || account->is_org)
    throw NotFoundError("there is no user number " + std::to_string(id));
  return *account;
}

Account require_org(Transaction& t, int64_t id) {
  auto account = account_by_id(t, id);
  if (!account || !account->is_org)
    throw NotFoundError("there is no organisation number " + std::to_string(id));
  return *account;
}

Role role_of(const std::string& text) {
  if (auto role = parse_role(text)) return *role;
  throw FormatError("database: role '" + printable(text) + "', expected read, write or admin");
}

Account Accounts::create_user(const std::string& name, const std::string& email, bool is_admin) {
  check_name(name);
  check_text("email", email);
  return database_.write(
      [&](Transaction& t) { return add_account(t, "user", name, "", email, is_admin); });
}

Account Accounts::create_org(const std::string& name, const std::string& fullname,
                             int64_t first_admin) {
  check_name(name);
  check_text("full name", fullname);
  return database_.write([&](Transaction& t) {
    require_user(t, first_admin);
    Account org = add_account(t, "org", name, fullname, "", false);
    add_member(t, org.id, first_admin, Role::admin);
    return org;
  });
}

std::optional<Account> Accounts::find(const std::string& name) {
  return database_.read([&](Transaction& t) {
    auto row = t.one(select_account(" FROM accounts WHERE name = ?"), name);
    return row ? std::optional(account_of(*row)) : std::nullopt;
  });
}

std::optional<Account> Accounts::find(int64_t id) {
  return database_.read([&](Transaction& t) { return account_by_id(t, id); });
}

std::vector<Account> Accounts::list(bool orgs) {
  return database_.read([&](Transaction& t) {
    std::vector<Account> accounts;
    t.each_values(select_account(" FROM accounts WHERE kind = ? ORDER BY name"),
                  {to_value(orgs ? "org" : "user")}, [&](const Row& row) {
                    accounts.push_back(account_of(row));
                    return true;
                  });
    return accounts;
  });
}

void Accounts::set_disabled(int64_t account, bool disabled) {
  database_.write([&](Transaction& t) {
    require_changed(t.run("UPDATE accounts SET disabled = ? WHERE id = ?", disabled, account),
                    account);
  });
}

void Accounts::set_quota(int64_t account, std::optional<int64_t> bytes) {
  if (bytes && *bytes < 0)
    throw ArgumentError("a quota of " + std::to_string(*bytes) + " bytes; at least 0");
  database_.write([&](Transaction& t) {
    require_changed(t.run("UPDATE accounts SET quota_bytes = ? WHERE id = ?", bytes, account),
                    account);
  });
}

void Accounts::remove(int64_t account) {
  database_.write([&](Transaction& t) {
    if (t.one("SELECT 1 FROM repos WHERE owner = ?", account))
      throw ConflictError("the account still owns repositories: move or delete them first");
    require_changed(t.run("DELETE FROM accounts WHERE id = ?", account), account);
  });
}

void Accounts::set_member(int64_t org, int64_t user, std::optional<Role> role) {
  database_.write([&](Transaction& t) {
    require_org(t, org);
    require_user(t, user);
    if (role)
      add_member(t, org, user, *role);
    else
      t.run("DELETE FROM members WHERE org = ? AND user = ?", org, user);
  });
}

std::vector<Accounts::Member> Accounts::members(int64_t org) {
  return members_where(database_, "ON accounts.id = members.user WHERE members.org = ?", org);
}

std::vector<Accounts::Member> Accounts::orgs_of(int64_t user) {
  return members_where(database_, "ON accounts.id = members.org WHERE members.user = ?", user);
}

void Accounts::audit(const Caller& caller, const std::string& action, const std::string& subject,
                     const std::string& detail) {
  database_.write([&](Transaction& t) {
    t.run(
        "INSERT INTO audit (at, account, address, request, action, subject, detail) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        now_ms(), caller.name(), printable(caller.address), printable(caller.request_id), action,
        printable(subject, 500), printable(detail, 2000));
  });
}

std::vector<AuditEntry> Accounts::audit_log(int64_t limit, const std::string& account,
                                            const std::string& action) {
  auto rows = database_.read([&](Transaction& t) {
    return t.query(
        "SELECT at, account, address, request, action, subject, detail FROM audit "
        "WHERE (?1 = '' OR account = ?1 COLLATE NOCASE) AND (?2 = '' OR action = ?2) "
        "ORDER BY id DESC LIMIT ?3",
        account, action, limit);
  });
  std::vector<AuditEntry> entries;
  for (auto row = rows.rbegin(); row != rows.rend(); ++row)
    entries.push_back({row->integer(0), row->text(1), row->text(2), row->text(3), row->text(4),
                       row->text(5), row->text(6)});
  return entries;
}

}  // namespace pretrained::server
