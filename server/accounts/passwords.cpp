#include <argon2.h>

#include <semaphore>

#include "server/accounts/rows.h"
#include "server/accounts/secrets.h"

// RFC 9106, section 4: argon2id with 64 MiB and 3 passes, on one lane.

namespace pretrained::server {
namespace {

constexpr uint32_t kPasses = 3, kKibibytes = 65'536, kLanes = 1;
constexpr size_t kSaltBytes = 16, kHashBytes = 32;
constexpr std::string_view kPrefix = "$argon2id$v=19$m=65536,t=3,p=1$";

class Turn {
 public:
  Turn() { turns().acquire(); }
  ~Turn() { turns().release(); }
  Turn(const Turn&) = delete;

 private:
  static std::counting_semaphore<2>& turns() {
    static std::counting_semaphore<2> two(2);
    return two;
  }
};

std::string hash_password(const std::string& password) {
  Turn turn;
  std::string salt = random_letters(kAlphanumerics, kSaltBytes);
  char encoded[256];
  int error = argon2id_hash_encoded(kPasses, kKibibytes, kLanes, password.data(), password.size(),
                                    salt.data(), salt.size(), kHashBytes, encoded, sizeof encoded);
  if (error != ARGON2_OK) throw Error(std::string("argon2id: ") + argon2_error_message(error));
  return encoded;
}

// The cost stands in the hash: only our own is taken.
bool matches(const std::string& hash, const std::string& password) {
  if (!hash.starts_with(kPrefix) || hash.size() > 200)
    throw FormatError("database: a password hash that is no " + std::string(kPrefix));
  Turn turn;
  int error = argon2id_verify(hash.c_str(), password.data(), password.size());
  if (error == ARGON2_OK || error == ARGON2_VERIFY_MISMATCH) return error == ARGON2_OK;
  throw Error(std::string("argon2id: ") + argon2_error_message(error));
}

}  // namespace

void Accounts::set_password(int64_t user, const std::string& password) {
  if (!password.empty() && (password.size() < 8 || password.size() > 1024))
    throw ArgumentError("a password of " + std::to_string(password.size()) +
                        " bytes; expected 8 to 1024");
  std::optional<std::string> hash;
  if (!password.empty()) hash = hash_password(password);
  database_.write([&](Transaction& t) {
    require_user(t, user);
    t.run("UPDATE accounts SET password_hash = ? WHERE id = ?", hash, user);
  });
}

std::optional<Account> Accounts::check_password(const std::string& name,
                                                const std::string& password,
                                                const std::string& address) {
  static const std::string nobodys = hash_password(random_hex(32));
  if (password.size() > 1024) return std::nullopt;
  if (!address.empty()) count_guess(address);
  std::optional<std::string> hash;
  std::optional<Account> account = database_.read([&](Transaction& t) {
    auto row = t.one(select_account(", password_hash FROM accounts WHERE name = ?"), name);
    if (!row) return std::optional<Account>();
    hash = row->optional_text(kAccountWidth);
    return std::optional(account_of(*row));
  });
  bool right = matches(hash.value_or(nobodys), password) && hash;
  return right && !account->disabled && !account->is_org ? account : std::nullopt;
}

}  // namespace pretrained::server
