#pragma once
// Tokens for the content-addressed store under /xet: a repository, a scope, whose token asked, an
// expiry time, and the hub's signature. What the caller may do is looked up again at every use, so
// revoking a token or a right also ends these.

#include <string>

#include "server/api/common.h"

namespace pretrained::server {

enum class XetScope { read, write };

struct XetToken {
  std::string token, cas_url;
  int64_t expires = 0;  // seconds since 1970
};
XetToken make_xet_token(const Call& call, const Repo& repo, XetScope scope);

}  // namespace pretrained::server
