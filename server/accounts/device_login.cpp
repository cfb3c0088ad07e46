#include <algorithm>

#include "server/accounts/rows.h"
#include "server/accounts/secrets.h"

// RFC 8628, https://www.rfc-editor.org/rfc/rfc8628: the device shows a short user code, its user
// approves it on a page, the device polls with the long device code.

namespace pretrained::server {
namespace {

constexpr int64_t kCodeSeconds = 900, kPollSeconds = 5;
constexpr int64_t kPollSlackMs = 1000;  // of clocks and networks
constexpr int64_t kWaiting = 10'000;
constexpr int64_t kDayMs = 86'400'000;
constexpr int64_t kAccessMs = 30 * kDayMs, kRefreshMs = 180 * kDayMs;
constexpr int64_t kForgivenMs = 600'000;
constexpr int64_t kApproved = 20, kRefreshTokens = 200;  // of one user
constexpr size_t kDeviceLetters = 40, kRefreshLetters = 40;

// Section 6.1: no vowels, so no words; nothing that is taken for something else.
constexpr std::string_view kUserLetters = "BCDFGHJKLMNPQRSTVWXZ";

// As a person types it: "abcd efgh" is "ABCD-EFGH". Empty where it is none.
std::string normal_user_code(const std::string& typed) {
  std::string code;
  if (typed.size() > 40) return "";
  for (char c : typed) {
    if (c == '-' || c == ' ') continue;
    if (c >= 'a' && c <= 'z') c = char(c - 32);
    if (kUserLetters.find(c) == kUserLetters.npos) return "";
    code += c;
  }
  return code.size() == 8 ? code.insert(4, "-") : "";
}

Accounts::Grant failed(const char* error) {
  Accounts::Grant grant;
  grant.error = error;
  return grant;
}

// Logins that can no longer be renewed, and their access tokens once those have expired.
void forget_old_logins(Transaction& t, int64_t now) {
  constexpr std::string_view over = "(expires_at <= ? OR replaced_at <= ?)";
  t.run(
      "DELETE FROM tokens WHERE expires_at <= ? AND id IN (SELECT token FROM refresh_tokens "
      "WHERE " +
          std::string(over) + ")",
      now, now, now - kForgivenMs);
  t.run("DELETE FROM refresh_tokens WHERE expires_at <= ?", now);
}

// `login`: the one that is renewed; none: a new one.
Accounts::Grant add_grant(Transaction& t, int64_t user, int64_t now,
                          const std::optional<Bytes>& login = {}) {
  Accounts::Grant grant;
  std::string name = "device login " + iso8601(now).substr(0, 10) + " " + random_hex(8);
  auto access = add_token(t, user, name, "write", {}, now + kAccessMs);
  grant.access_token = access.secret;
  grant.refresh_token = "hfr_" + random_letters(kAlphanumerics, kRefreshLetters);
  grant.expires_in = kAccessMs / 1000;
  Bytes hash = hash_of(grant.refresh_token);
  t.run("INSERT INTO refresh_tokens (hash, user, token, login, expires_at) VALUES (?, ?, ?, ?, ?)",
        hash, user, access.token.id, login.value_or(hash), now + kRefreshMs);
  // The rows of refresh_tokens go with them.
  t.run(
      "DELETE FROM tokens WHERE id IN (SELECT token FROM refresh_tokens WHERE user = ?"
      " ORDER BY expires_at DESC, token DESC LIMIT -1 OFFSET ?)",
      user, kRefreshTokens);
  return grant;
}

// Two use what only one was given: nobody can say who the thief is.
void end_login(Transaction& t, const Bytes& login) {
  t.run("DELETE FROM tokens WHERE id IN (SELECT token FROM refresh_tokens WHERE login = ?)", login);
  t.run("DELETE FROM refresh_tokens WHERE login = ?", login);
}

bool is_enabled(Transaction& t, int64_t user) {
  auto account = account_by_id(t, user);
  return account && !account->is_org && !account->disabled;
}

}  // namespace

void Accounts::count_guess(const std::string& address) {
  auto own = guesses_.take(address);
  // One address that goes on does not use up everybody's.
  if (own.allowed && all_guesses_.take("").allowed) return;
  throw TooManyAttempts(
      "too many codes or passwords were tried; wait " + std::to_string(own.reset_seconds) + " s",
      own.reset_seconds);
}

Accounts::DeviceCode Accounts::start_device_login(const std::string& client_id,
                                                  const std::string& address) {
  if (client_id.empty() || client_id.size() > 200 || printable(client_id, 1000) != client_id)
    throw ArgumentError("client_id '" + printable(client_id) + "': expected 1 to 200 letters");
  if (auto own = starts_.take(address); !address.empty() && !own.allowed)
    throw TooManyAttempts("too many logins were started from " + printable(address),
                          own.reset_seconds);
  return database_.write([&](Transaction& t) {
    int64_t now = now_ms();
    t.run("DELETE FROM device_codes WHERE expires_at <= ?", now - kCodeSeconds * 1000);
    if (t.one("SELECT count(*) FROM device_codes")->integer(0) >= kWaiting)
      throw TooManyAttempts("too many logins wait for approval", kCodeSeconds);
    DeviceCode code;
    code.device_code = random_letters(kAlphanumerics, kDeviceLetters);
    do {
      code.user_code = random_letters(kUserLetters, 8).insert(4, "-");
    } while (t.one("SELECT 1 FROM device_codes WHERE user_code = ?", code.user_code));
    code.expires_in = kCodeSeconds;
    code.interval = kPollSeconds;
    t.run(
        "INSERT INTO device_codes (hash, user_code, client_id, state, expires_at) "
        "VALUES (?, ?, ?, 'pending', ?)",
        hash_of(code.device_code), code.user_code, client_id, now + kCodeSeconds * 1000);
    return code;
  });
}

bool Accounts::device_login_waits(const std::string& user_code, const std::string& address) {
  std::string code = normal_user_code(user_code);
  if (code.empty()) return false;
  count_guess(address);
  return database_.read([&](Transaction& t) {
    return t
        .one(
            "SELECT 1 FROM device_codes WHERE user_code = ? AND state = 'pending' "
            "AND expires_at > ?",
            code, now_ms())
        .has_value();
  });
}

Accounts::Decision Accounts::decide_device_login(const std::string& user_code, int64_t user,
                                                 bool approve, const std::string& address) {
  std::string code = normal_user_code(user_code);
  if (code.empty()) return Decision::unknown;
  count_guess(address);
  return database_.write([&](Transaction& t) {
    if (!is_enabled(t, user)) return Decision::unknown;
    auto waiting = t.one(
        "SELECT count(*) FROM device_codes WHERE user = ? AND state = 'approved' AND expires_at > "
        "?",
        user, now_ms());
    if (approve && waiting->integer(0) >= kApproved)
      throw TooManyAttempts("too many approved logins wait to be fetched", kCodeSeconds);
    int64_t changed = t.run(
        "UPDATE device_codes SET state = ?, user = ? WHERE user_code = ? AND state = 'pending' "
        "AND expires_at > ?",
        approve ? "approved" : "denied", user, code, now_ms());
    return changed ? Decision::done : Decision::unknown;
  });
}

Accounts::Grant Accounts::poll_device_login(const std::string& device_code) {
  if (!is_secret(device_code, "", kDeviceLetters)) return failed("invalid_grant");
  Bytes hash = hash_of(device_code);
  int64_t now = now_ms();
  auto row = database_.read([&](Transaction& t) {
    return t.one("SELECT state, expires_at, last_poll_at FROM device_codes WHERE hash = ?", hash);
  });
  if (!row) return failed("invalid_grant");
  if (row->integer(1) <= now) return failed("expired_token");
  if (row->text(0) == "denied") return failed("access_denied");
  if (row->text(0) == "pending") {
    // Who polls too fast does not even get a write.
    if (now - row->integer(2) < kPollSeconds * 1000 - kPollSlackMs) return failed("slow_down");
    database_.write([&](Transaction& t) {
      t.run("UPDATE device_codes SET last_poll_at = ? WHERE hash = ?", now, hash);
    });
    return failed("authorization_pending");
  }
  return database_.write([&](Transaction& t) {
    auto user = t.one("SELECT user FROM device_codes WHERE hash = ? AND state = 'approved'", hash);
    if (!user) return failed("invalid_grant");  // another poll was first
    t.run("DELETE FROM device_codes WHERE hash = ?", hash);
    if (!is_enabled(t, user->integer(0))) return failed("access_denied");
    forget_old_logins(t, now);
    return add_grant(t, user->integer(0), now);
  });
}

Accounts::Grant Accounts::refresh(const std::string& refresh_token) {
  if (!is_secret(refresh_token, "hfr_", kRefreshLetters)) return failed("invalid_grant");
  Bytes hash = hash_of(refresh_token);
  return database_.write([&](Transaction& t) {
    int64_t now = now_ms();
    auto row = t.one(
        "SELECT user, replaced_at, expires_at, login FROM refresh_tokens WHERE hash = ?", hash);
    if (!row || row->integer(2) <= now) return failed("invalid_grant");
    auto replaced = row->optional_integer(1);
    if (replaced && *replaced <= now - kForgivenMs) {
      end_login(t, Bytes{row->bytes(3)});
      return failed("invalid_grant");
    }
    if (!is_enabled(t, row->integer(0))) return failed("invalid_grant");
    t.run("UPDATE refresh_tokens SET replaced_at = coalesce(replaced_at, ?) WHERE hash = ?", now,
          hash);
    forget_old_logins(t, now);
    return add_grant(t, row->integer(0), now, Bytes{row->bytes(3)});
  });
}

}  // namespace pretrained::server
