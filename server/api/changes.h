#pragma once
// What the handlers that change content share: who may change which reference, and which one a
// revision names.

#include <optional>
#include <string>

#include "server/api/common.h"

namespace pretrained::server {

// The repository of the path, for changing `revision` of it: write access, or read access with a
// token that may write for opening a pull request and for the pull requests of one's own.
Repo require_writable(Call& call, const std::string& revision, bool create_pull_request = false);
bool may_write_reference(Services& services, const Caller& caller, const Repo& repo,
                         const std::string& reference);
// The number in "refs/pr/7".
std::optional<int64_t> pull_request_number(std::string_view reference);

// A branch or pull request that exists, or main of a repository without any; else 404
// RevisionNotFound.
struct Branch {
  std::string reference;
  Oid head = kNoOid;
  std::vector<Oid> parents() const {
    return head == kNoOid ? std::vector<Oid>{} : std::vector<Oid>{head};
  }
};
Branch require_branch(Call& call, const Repo& repo, const std::string& revision);
// 400 for what git check-ref-format refuses.
void check_reference_name(const std::string& reference);
bool is_commit_id(std::string_view name);  // 40 hexadecimal digits: never a branch or a tag

// git and git-lfs ask for a password only after 401: without a token, what may not be seen, what
// may not be done and what is absent all give 401 Basic. Returns where that is not the case.
void challenge(Call& call, const HttpError& error);

// May the caller store large objects for the repository: write to it, or open a pull request?
bool may_upload(Services& services, const Caller& caller, const Repo& repo);

// An address (path without query) that needs no token: it does one thing with one repository for a
// while, for as long as whom it was given to may do that. 403 otherwise.
std::string signed_url(const Call& call, const Caller& holder, const Repo& repo,
                       const std::string& purpose, const std::string& path, int64_t seconds);
Repo require_signature(const Call& call, const std::string& purpose, bool upload = false);
// Nobody (0), or the user and token as they stand now; 401 where either has ended.
Caller recall(Services& services, int64_t user, int64_t token);
// A number in the path; 400.
uint64_t number_capture(const Call& call, const std::string& name);

}  // namespace pretrained::server
