#include "pretrained/base/json.h"
#include "server/accounts/rows.h"
#include "server/accounts/secrets.h"

namespace pretrained::server {
namespace {

constexpr size_t kScopes = 200;
constexpr size_t kSecretLetters = 34;
constexpr int64_t kUseIsNotedEvery = 60'000;

constexpr std::string_view kTokenColumns =
    "tokens.id, tokens.user, tokens.name, tokens.role, tokens.scopes, tokens.created_at, "
    "tokens.expires_at, tokens.last_used_at, tokens.revoked_at";

// "model/org/name"
bool is_scope(std::string_view scope) {
  size_t first = scope.find('/'), second = scope.find('/', first + 1);
  if (first == scope.npos || second == scope.npos) return false;
  return is_repo_type(scope.substr(0, first)) &&
         is_name(scope.substr(first + 1, second - first - 1)) && is_name(scope.substr(second + 1));
}

std::string write_scopes(const std::map<std::string, Role>& scopes) {
  Json::Object object;
  for (auto& [scope, role] : scopes) object[scope] = std::string(to_string(role));
  return Json(object).dump(0);
}

std::map<std::string, Role> read_scopes(const std::string& text) {
  std::map<std::string, Role> scopes;
  Json json = Json::parse(text, "database: scopes of a token");
  auto* object = json.get_if<Json::Object>();
  if (!object) throw FormatError("database: scopes of a token are " + std::string(json.kind()));
  for (auto& [scope, role] : *object) {
    auto* name = role.get_if<std::string>();
    scopes[scope] = role_of(name ? *name : role.kind());
  }
  return scopes;
}

Token token_of(const Row& row) {
  Token token;
  token.id = row.integer(0);
  token.user = row.integer(1);
  token.name = row.text(2);
  token.role = row.text(3);
  token.scopes = read_scopes(row.text(4));
  token.created_at = row.integer(5);
  token.expires_at = row.optional_integer(6);
  token.last_used_at = row.optional_integer(7);
  token.revoked_at = row.optional_integer(8);
  return token;
}

void check_token(const std::string& name, const std::string& role,
                 const std::map<std::string, Role>& scopes, std::optional<int64_t> expires_at) {
  if (name.empty() || name.size() > 100 || printable(name, 1000) != name)
    throw ArgumentError("token name '" + printable(name) +
                        "': expected 1 to 100 bytes of UTF-8 without control characters");
  if (role != "read" && role != "write" && role != "fineGrained")
    throw ArgumentError("token role '" + printable(role) +
                        "': expected read, write or fineGrained");
  if (scopes.empty() == (role == "fineGrained"))
    throw ArgumentError("token '" + name + "': a fineGrained token, and no other, has scopes");
  if (scopes.size() > kScopes)
    throw ArgumentError("token '" + name + "': " + std::to_string(scopes.size()) +
                        " scopes, at most " + std::to_string(kScopes));
  for (auto& [scope, allowed] : scopes)
    if (!is_scope(scope) || allowed == Role::none)
      throw ArgumentError(
          "token scope '" + printable(scope) + "': " + std::string(to_string(allowed)) +
          "; expected model/owner/name (or dataset, space, kernel): read, write or admin");
  if (expires_at && *expires_at <= now_ms())
    throw ArgumentError("token '" + name + "': expires in the past, " + iso8601(*expires_at));
}

std::optional<Caller> caller_of(Transaction& t, int64_t user, std::optional<Token> token) {
  Caller caller;
  caller.token = std::move(token);
  caller.user = account_by_id(t, user);
  if (!caller.user || caller.user->disabled) return std::nullopt;
  t.each_values(
      "SELECT members.org, members.role FROM members JOIN accounts ON accounts.id = members.org "
      "WHERE members.user = ? AND NOT accounts.disabled",
      {caller.user->id}, [&](const Row& member) {
        caller.orgs[member.integer(0)] = role_of(member.text(1));
        return true;
      });
  return caller;
}

// The token, where it is good now.
template <class Key>
std::optional<Token> good_token(Transaction& t, const char* column, const Key& key, int64_t now) {
  auto row = t.one("SELECT " + std::string(kTokenColumns) + " FROM tokens WHERE " + column +
                       " = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)",
                   key, now);
  return row ? std::optional(token_of(*row)) : std::nullopt;
}

}  // namespace

Accounts::NewToken add_token(Transaction& t, int64_t user, const std::string& name,
                             const std::string& role, const std::map<std::string, Role>& scopes,
                             std::optional<int64_t> expires_at) {
  require_user(t, user);
  t.run(
      "UPDATE tokens SET name = name || ' (revoked, number ' || id || ')' "
      "WHERE user = ? AND name = ? AND revoked_at IS NOT NULL",
      user, name);
  if (t.one("SELECT 1 FROM tokens WHERE user = ? AND name = ?", user, name))
    throw ConflictError("a token named '" + name + "' exists already");
  Accounts::NewToken fresh;
  fresh.secret = "hf_" + random_letters(kAlphanumerics, kSecretLetters);
  t.run(
      "INSERT INTO tokens (id, user, name, hash, role, scopes, created_at, expires_at) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      fresh_id(t, "tokens"), user, name, hash_of(fresh.secret), role, write_scopes(scopes),
      now_ms(), expires_at);
  fresh.token = token_of(
      *t.one("SELECT " + std::string(kTokenColumns) + " FROM tokens WHERE id = ?", t.last_id()));
  return fresh;
}

Accounts::NewToken Accounts::create_token(int64_t user, const std::string& name,
                                          const std::string& role,
                                          const std::map<std::string, Role>& scopes,
                                          std::optional<int64_t> expires_at) {
  check_token(name, role, scopes, expires_at);
  return database_.write(
      [&](Transaction& t) { return add_token(t, user, name, role, scopes, expires_at); });
}

std::vector<Token> Accounts::tokens(int64_t user) {
  return database_.read([&](Transaction& t) {
    std::vector<Token> tokens;
    t.each_values(
        "SELECT " + std::string(kTokenColumns) + " FROM tokens WHERE user = ? ORDER BY id", {user},
        [&](const Row& row) {
          tokens.push_back(token_of(row));
          return true;
        });
    return tokens;
  });
}

void Accounts::revoke(int64_t token) {
  database_.write([&](Transaction& t) {
    t.run(
        "DELETE FROM refresh_tokens WHERE login IN"
        " (SELECT login FROM refresh_tokens WHERE token = ?)",
        token);
    if (t.run("UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", now_ms(),
              token) == 0)
      throw NotFoundError("there is no token number " + std::to_string(token));
  });
}

std::optional<Caller> Accounts::authenticate(const std::string& secret) {
  if (!is_secret(secret, "hf_", kSecretLetters)) return std::nullopt;
  Bytes hash = hash_of(secret);
  int64_t now = now_ms();
  auto caller = database_.read([&](Transaction& t) {
    auto token = good_token(t, "hash", hash, now);
    return token ? caller_of(t, token->user, token) : std::nullopt;
  });
  if (!caller || caller->token->last_used_at.value_or(0) > now - kUseIsNotedEvery) return caller;
  try {
    database_.write([&](Transaction& t) {
      t.run("UPDATE tokens SET last_used_at = ? WHERE id = ?", now, caller->token->id);
    });
  } catch (const IoError&) {
    // A full disk must not keep anybody from reading.
  }
  return caller;
}

std::optional<Caller> Accounts::recall(int64_t user, int64_t token) {
  return database_.read([&](Transaction& t) -> std::optional<Caller> {
    if (token == 0) return caller_of(t, user, std::nullopt);
    auto known = good_token(t, "id", token, now_ms());
    return known && known->user == user ? caller_of(t, user, known) : std::nullopt;
  });
}

}  // namespace pretrained::server
