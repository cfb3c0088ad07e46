#pragma once
// Users, organisations, tokens, and who may do what. Tokens are "hf_" and 34 letters or digits (the
// JavaScript client takes no others); the database holds their SHA-256 only. May be called from any
// thread. docs/permissions.md is the table that `role_on` implements.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/storage/database.h"

namespace pretrained::server {

struct Account {
  int64_t id = 0;
  bool is_org = false;
  std::string name, fullname, email;
  bool is_admin = false, disabled = false;
  std::optional<int64_t> quota_bytes;
  int64_t created_at = 0;
};

enum class Role { none, read, write, admin };
std::string_view to_string(Role role);
std::optional<Role> parse_role(std::string_view text);

struct Token {
  int64_t id = 0, user = 0;
  std::string name, role;              // "read", "write", "fineGrained"
  std::map<std::string, Role> scopes;  // fineGrained: "model/org/name" → role
  int64_t created_at = 0;
  std::optional<int64_t> expires_at, last_used_at, revoked_at;
};

// Who sends a request: an account with the token it showed, or nobody.
struct Caller {
  std::optional<Account> user;
  std::optional<Token> token;
  std::map<int64_t, Role> orgs;  // organisation id → role
  std::string address, request_id;
  // serve --anonymous read|write: what nobody may do with public repositories.
  Role anonymous_role = Role::read;
  bool anonymous() const { return !user; }
  std::string name() const { return user ? user->name : "anonymous"; }
};

inline constexpr const char* kRepoTypes = "model, dataset, space or kernel";
bool is_repo_type(std::string_view type);

// What the rules need to know of a repository.
struct RepoAccess {
  int64_t id = 0, owner = 0;
  std::string type, owner_name, name;  // "model"
  bool is_private = false;
  std::string gated;  // "", "auto", "manual"
  bool disabled = false;
};

// Requests of one key (token or address) in a fixed window; thread-safe, in memory. Keys beyond
// 65,536 in one window share 1,024 counters, so memory is bounded. `requests` 0: no limit.
class RateLimiter {
 public:
  RateLimiter(int64_t requests, int64_t window_seconds);
  ~RateLimiter();
  struct Verdict {
    bool allowed;
    int64_t remaining, reset_seconds;
  };
  Verdict take(const std::string& key);
  int64_t requests() const;
  int64_t window() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Too many guesses of a user code; another try makes sense after retry_seconds.
class TooManyAttempts : public Error {
 public:
  TooManyAttempts(const std::string& message, int64_t retry_seconds)
      : Error(message), retry_seconds(retry_seconds) {}
  int64_t retry_seconds;
};

struct AuditEntry {
  int64_t at = 0;
  std::string account, address, request, action, subject, detail;
};

class Accounts {
 public:
  explicit Accounts(Database& database) : database_(database) {}

  // Names follow the client's grammar: 1–96 of [A-Za-z0-9._-], no "--" or "..", no "-" or "." at an
  // end, no ".git" there, and none that is the first part of an address of the hub ("datasets",
  // "api", …). Case is kept and ignored in comparisons. ArgumentError for a bad name, ConflictError
  // for a taken one. Whatever takes an id throws NotFoundError where there is no such account, user
  // or organisation.
  Account create_user(const std::string& name, const std::string& email = "",
                      bool is_admin = false);
  Account create_org(const std::string& name, const std::string& fullname, int64_t first_admin);
  std::optional<Account> find(const std::string& name);
  std::optional<Account> find(int64_t id);
  std::vector<Account> list(bool orgs);
  void set_disabled(int64_t account, bool disabled);
  void set_quota(int64_t account, std::optional<int64_t> bytes);
  // argon2id; 8 to 1,024 bytes; "" removes it.
  void set_password(int64_t user, const std::string& password);
  void remove(int64_t account);  // ConflictError while it owns repositories
  void set_member(int64_t org, int64_t user, std::optional<Role> role);  // none: removes
  struct Member {
    Account account;  // the other side: the user of an org, the org of a user
    Role role;
  };
  std::vector<Member> members(int64_t org);
  std::vector<Member> orgs_of(int64_t user);

  struct NewToken {
    Token token;
    std::string secret;  // shown once
  };
  // `expires_at` lies in the future. Scopes are for, and needed by, "fineGrained". A name is free
  // again once its token is revoked. ArgumentError, ConflictError.
  NewToken create_token(int64_t user, const std::string& name, const std::string& role,
                        const std::map<std::string, Role>& scopes = {},
                        std::optional<int64_t> expires_at = {});
  std::vector<Token> tokens(int64_t user);
  void revoke(int64_t token);

  // The caller that a token belongs to; nothing where it is unknown, expired or revoked, or its
  // user disabled. Notes the time of use at most once a minute.
  std::optional<Caller> authenticate(const std::string& secret);
  // Who is known by numbers, as they stand now: for what somebody was given with a token earlier.
  // `token` 0: none. Nothing where authenticate() would give nothing.
  std::optional<Caller> recall(int64_t user, int64_t token);
  // Takes as long for an unknown name as for a wrong password. Two at a time use 64 MiB each, more
  // wait. `address` counts as in decide_device_login; none: it does not count.
  std::optional<Account> check_password(const std::string& name, const std::string& password,
                                        const std::string& address = "");

  // RFC 8628, as `hf auth login` drives it.
  struct DeviceCode {
    std::string device_code, user_code;  // "ABCD-EFGH"
    int64_t expires_in, interval;        // seconds
  };
  // TooManyAttempts while 10,000 others wait, and beyond 100 in 15 minutes of one `address`.
  DeviceCode start_device_login(const std::string& client_id, const std::string& address = "");
  enum class Decision { unknown, done };
  // Upper or lower case, with or without the dash. User codes are short: each `address` has 30
  // tries in 15 minutes, all together 3,000; then TooManyAttempts.
  Decision decide_device_login(const std::string& user_code, int64_t user, bool approve,
                               const std::string& address = "");
  // The waiting login that has this user code, for the approval page.
  bool device_login_waits(const std::string& user_code, const std::string& address = "");
  struct Grant {
    std::string error;  // "authorization_pending", "slow_down", "expired_token", "access_denied",
                        // "invalid_grant"; "" when granted
    std::string access_token, refresh_token;
    int64_t expires_in = 0;
  };
  // The access token may do what its user may, lasts 30 days, and its refresh token 180. A refresh
  // gives a new pair; the used refresh token gives others for 10 minutes more, lest an answer was
  // lost on the way. Used after that, it ends its login: every token that came of it. Of one user
  // the newest 200 refresh tokens, used ones included, are kept with their access tokens, and at
  // most 20 approved logins wait to be fetched (TooManyAttempts).
  Grant poll_device_login(const std::string& device_code);
  Grant refresh(const std::string& refresh_token);

  void audit(const Caller& caller, const std::string& action, const std::string& subject,
             const std::string& detail = "");
  // The newest `limit` entries, oldest first; "" is every account, every action.
  std::vector<AuditEntry> audit_log(int64_t limit, const std::string& account = "",
                                    const std::string& action = "");

 private:
  void count_guess(const std::string& address);
  Database& database_;
  RateLimiter guesses_{30, 900}, all_guesses_{3000, 900}, starts_{100, 900};
};

// The most the caller may do with the repository, all rules together: ownership, membership, hub
// admins, visibility, gating, what the token allows. `none` must look like "no such repository".
// Gated: who may not read the files yet still sees that the repository exists, see may_see().
// Disabled repositories are seen as before, and nobody but hub admins may do anything with them.
Role role_on(const Caller& caller, const RepoAccess& repo, bool access_granted = false);
bool may_see(const Caller& caller, const RepoAccess& repo);
// Who reads and is signed in may propose changes, with a token that could write.
bool may_open_pull_request(const Caller& caller, const RepoAccess& repo,
                           bool access_granted = false);
// What the caller may do in a namespace: write creates repositories, admin moves and deletes them.
Role role_in(const Caller& caller, const Account& owner);

}  // namespace pretrained::server
