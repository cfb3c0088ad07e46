#pragma once
// Addresses, read by the same parser that curl sends them with: what one takes for the host, the
// other does too.

#include <optional>
#include <string>

#include "pretrained/base/export.h"

namespace pretrained::hub {

struct Url {
  std::string text;    // whole, normalised
  std::string origin;  // "https://hub.example:443", in lower case
  std::string shown;   // without the query, which may hold a signature: for messages
  bool is_https() const { return origin.starts_with("https:"); }
};

// Nothing unless it is an absolute http or https address without a user name.
PRETRAINED_API std::optional<Url> parse_url(const std::string& text);
// `reference`, which may be relative, as seen from `base`.
PRETRAINED_API std::optional<Url> resolve_url(const Url& base, const std::string& reference);

}  // namespace pretrained::hub
