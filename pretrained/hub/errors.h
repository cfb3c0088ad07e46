#pragma once
// What can go wrong between us and a hub. Messages name the repository and commit, the file, what
// the server said, its request id, and what to do. The kinds follow
// https://huggingface.co/docs/huggingface_hub/package_reference/utilities#errors

#include <string>
#include <utility>

#include "pretrained/base/error.h"

namespace pretrained::hub {

// No answer: connection refused, timed out, broken off, TLS failed; also 429 and 5xx after the last
// retry.
class PRETRAINED_API NetworkError : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 6; }
};

// Offline (HF_HUB_OFFLINE, local_files_only), and what was asked for is not in the cache.
class PRETRAINED_API OfflineError : public NetworkError {
 public:
  using NetworkError::NetworkError;
};

// 404, by X-Error-Code. A repository that one may not see does not exist.
class PRETRAINED_API RepositoryNotFound : public NotFoundError {
 public:
  using NotFoundError::NotFoundError;
};
class PRETRAINED_API RevisionNotFound : public NotFoundError {
 public:
  using NotFoundError::NotFoundError;
};
class PRETRAINED_API EntryNotFound : public NotFoundError {
 public:
  using NotFoundError::NotFoundError;
};

// 401 and 403: no token, a bad one, or one without the right.
class PRETRAINED_API Unauthorized : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 4; }
};
// Access must be asked for first, on the repository's page.
class PRETRAINED_API GatedRepository : public Unauthorized {
 public:
  using Unauthorized::Unauthorized;
};

// 409 and 412: it exists already, or somebody else was faster: read again and repeat.
class PRETRAINED_API Conflict : public Error {
 public:
  using Error::Error;
};

// Any other refusal.
class PRETRAINED_API HubError : public Error {
 public:
  HubError(const std::string& message, int status) : Error(message), status(status) {}
  int status;
};

// `more` at the end of a message; before status and request, which stay last.
PRETRAINED_API std::string extended(const std::string& message, const std::string& more);

// The server's bytes are not what it announced: a wrong hash, length, commit or address. Nothing of
// them has become visible.
class PRETRAINED_API IntegrityError : public FormatError {
 public:
  using FormatError::FormatError;
};

// Files that are about to be published hold what looks like a token or a private key.
class PRETRAINED_API SecretFound : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 4; }
};

}  // namespace pretrained::hub
