#pragma once
// A row of `repos` as a Repo: the columns that every query of this room selects, in this order.

#include <string>

#include "server/repos/repos.h"

namespace pretrained::server {

// `repos.disabled`: 1 by an administrator; 2 while create() makes the first commit.
inline constexpr int64_t kBeingMade = 2;

// "SELECT … FROM repos r JOIN accounts a"; a WHERE follows. `extra` columns come last.
std::string select_repos(const std::string& extra = "");
inline constexpr size_t kRepoColumns = 22;
Repo repo_of(const Row& row);

// QuotaExceeded where the account, with `more` bytes, would hold more than it may.
void check_quota(Transaction& t, int64_t account, uint64_t more = 0);

}  // namespace pretrained::server
