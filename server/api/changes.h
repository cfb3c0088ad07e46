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

// Whom an address or a Xet token was given to, and for which repository; 0: nobody, no token.
struct Holder {
  int64_t repo = 0, user = 0, token = 0;
  Holder() = default;
  Holder(const Caller& caller, const Repo& of);
  static std::optional<Holder> parse(std::string_view text);
  std::string text() const;  // "repo.user.token"
};
// Both as they stand now, for reading or uploading: 401 where user or token have ended, 404 where
// the repository has, 403 where its holder may no longer do that.
struct Held {
  Caller caller;
  Repo repo;
};
Held require_holder(Services& services, const Holder& holder, bool upload);

// An address (path without query) that needs no token: it does one thing with one repository for a
// while, for as long as whom it was given to may do that. 403 otherwise.
std::string signed_url(const Call& call, const Caller& holder, const Repo& repo,
                       const std::string& purpose, const std::string& path, int64_t seconds);
Repo require_signature(const Call& call, const std::string& purpose, bool upload = false);
// Not negative, and nothing behind it.
std::optional<int64_t> read_number(std::string_view text);
// A number in the path; 400.
uint64_t number_capture(const Call& call, const std::string& name);

}  // namespace pretrained::server
