#pragma once
// The file stored_tokens, as Python's configparser reads and writes it. Sections and fields that
// are none of ours are kept.

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pretrained/base/files.h"
#include "pretrained/hub/tokens.h"

namespace pretrained::hub {

using TokenFields = std::vector<std::pair<std::string, std::string>>;
using TokenSections = std::map<std::string, TokenFields>;
using TokenHubs =
    std::map<std::string, std::string>;  // address of the hub, by SHA-256 of the token

// FormatError names the line.
PRETRAINED_API TokenSections parse_stored_tokens(const std::string& text,
                                                 const std::string& source);
PRETRAINED_API std::string write_stored_tokens(const TokenSections& sections);

// What is stored; with the lock for changes, while it lives.
class StoredTokens {
 public:
  StoredTokens();
  std::vector<StoredToken> list() const;
  void put(const StoredToken& token);
  void save();
  TokenSections sections;

 private:
  std::filesystem::path path_;
  FileLock lock_;
  TokenHubs hubs_;
};

// Only what is read.
std::vector<StoredToken> read_stored_tokens();

// The address of the hub that a stored token is for; "" where that is not known. FormatError where
// token_hubs is damaged.
std::string hub_of_token(const std::string& token);

// The token file's token, "" where there is none.
std::string file_token();
void write_file_token(const std::string& token);
// Without blanks around it; FormatError where it is no token. `source` is for the message.
std::string clean_token(const std::string& text, const std::string& source);

}  // namespace pretrained::hub
