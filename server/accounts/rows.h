#pragma once
// Rows of the tables of this room as its types. Private to this room.

#include "server/accounts/accounts.h"

namespace pretrained::server {

inline constexpr std::string_view kAccountColumns =
    "accounts.id, accounts.kind, accounts.name, accounts.fullname, accounts.email, "
    "accounts.is_admin, accounts.disabled, accounts.quota_bytes, accounts.created_at";
inline constexpr size_t kAccountWidth = 9;
Account account_of(const Row& row);

// "SELECT <account columns><more>"
std::string select_account(std::string_view more);

std::optional<Account> account_by_id(Transaction& transaction, int64_t id);
Account require_user(Transaction& transaction, int64_t id);  // NotFoundError
Account require_org(Transaction& transaction, int64_t id);

// A role in the database that is none of ours is a FormatError.
Role role_of(const std::string& text);

// In a transaction of the caller's: what Accounts::create_token does.
Accounts::NewToken add_token(Transaction& transaction, int64_t user, const std::string& name,
                             const std::string& role, const std::map<std::string, Role>& scopes,
                             std::optional<int64_t> expires_at);

bool is_name(std::string_view name);  // of an account or a repository

}  // namespace pretrained::server
