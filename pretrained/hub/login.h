#pragma once
// Logging in, for programs and notebooks:
//
//   pretrained::login();                        // prints address and code, waits for the browser
//   pretrained::login({.token = from_my_vault});
//
// Without a token the device flow (RFC 8628) runs: the user opens an address on any device and
// approves a short code. The result is stored (tokens.h). Mirrors huggingface_hub.login.

#include <functional>
#include <string>

#include "pretrained/base/export.h"

namespace pretrained {

struct DeviceCode {
  std::string verification_uri, verification_uri_complete, user_code;
  int expires_in = 0;  // seconds
};

struct Login {
  std::string token;     // "" : device flow
  std::string endpoint;  // "" : HF_ENDPOINT
  // Shows the address and the code; without it two lines go to standard error.
  std::function<void(const DeviceCode&)> on_code;
  // Called about once a second while the browser is waited for; throws to give up.
  std::function<void()> on_wait;
};

struct LoginResult {
  std::string user, token_name, stored_in;
};

// Unauthorized where the hub knows no such token or the user declines; NetworkError.
PRETRAINED_API LoginResult login(const Login& options = {});

namespace hub {
// What find_token() gives, and of a device login's token with less than a day left a new one. Never
// throws for a renewal that fails: the old token is tried. Unauthorized for a stored token of
// another hub than `endpoint`.
PRETRAINED_API std::string current_token(const std::string& endpoint);
}  // namespace hub

}  // namespace pretrained
