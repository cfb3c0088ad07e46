#pragma once
// Tokens, where Python's clients keep them, so that `hf` and `pretrained` share a session:
//
//   $HF_HOME/token          the active one, one line, mode 0600
//   $HF_HOME/stored_tokens  INI: [name], hf_token, and for device logins refresh_token, expires_at
//   $HF_HOME/token_hubs     ours: the hub that each token logged in to, by the token's SHA-256
//
// A stored token is sent to the hub that it is for and to no other; of one that Python stored
// nobody knows the hub, and it goes where HF_ENDPOINT says. Files are written whole and 0600, their
// folder 0700; stored_tokens.lock guards changes. Tokens never appear in messages.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::hub {

struct StoredToken {
  std::string name, token, refresh_token;
  int64_t expires_at = 0;  // Unix seconds; 0: does not expire
  bool active = false;
  std::string endpoint;  // of its hub; "": not known
};

// HF_TOKEN, HUGGING_FACE_HUB_TOKEN, then the token file; "" where there is none. FormatError for
// one with line breaks or blanks inside, which no header may carry.
PRETRAINED_API std::string find_token();
// Where find_token() has it from: "HF_TOKEN", a path, or "".
PRETRAINED_API std::string token_source();
PRETRAINED_API std::vector<StoredToken> list_tokens();
// Adds or replaces one; `activate` makes it the one find_token() reads.
PRETRAINED_API void store_token(const StoredToken& token, bool activate);
// NotFoundError names near matches.
PRETRAINED_API void activate_token(const std::string& name);
// One by name, or all with ""; the active one's file goes too. False where there was none.
PRETRAINED_API bool remove_token(const std::string& name);

}  // namespace pretrained::hub
