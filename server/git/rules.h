#pragma once
// What git's fsck refuses, for objects that we make ourselves. (Pushed ones are checked by git.)

#include <string>
#include <string_view>

#include "server/git/git_store.h"

namespace pretrained::server {

// FormatError names the path and the rule.
void check_path(const std::string& path);
// Files that git itself interprets: .gitattributes must be readable for every git, .gitmodules is
// only accepted by push, where git checks it.
void check_git_file(const std::string& path, std::string_view content);
// FormatError: a NUL in the text.
void check_message(const std::string& text);
// "refs/heads/…", "refs/tags/…" or another name below refs/ that git accepts.
bool is_ref_name(const std::string& name);
// "name <email> 1700000000 +0000", without what would end the line or the address.
std::string signature_line(const Person& person, int64_t seconds);

}  // namespace pretrained::server
