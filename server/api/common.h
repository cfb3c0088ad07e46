#pragma once
// What most handlers need: the repository of a path with the caller's right to it, revisions, JSON
// answers, page links.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api/app.h"

namespace pretrained::server {

// The repository that {type} (models, datasets, spaces, kernels; absent: model), {namespace} and
// {name} name. 404 RepoNotFound where it is absent or the caller may not see it; 403 GatedRepo (401
// without a token) where it may be seen but not read; 403 where `needed` is more than the caller
// has. A former name answers 307 to the current one, where the caller may read that.
Repo require_repo(Call& call, Role needed);
// Seen, not read: for info of gated repositories.
Repo require_visible_repo(Call& call);
// Who is signed in; 401 otherwise. `write`: with a token that could write; 403.
const Account& require_user(Call& call, bool write = false);
// A revision as it stands in one decoded segment. 404 RevisionNotFound "Invalid rev id: X".
Oid require_revision(Call& call, const Repo& repo, const std::string& revision);
// Segments of an address, from the `first` on, as one path.
std::string joined(const std::vector<std::string>& segments, size_t first = 0);
// A revision whose "/" may be unquoted: the first segment where that is a revision, else the
// longest known reference at the start of `rest`; the remaining segments are the path.
struct RevisionAndPath {
  std::string revision;
  Oid commit;
  std::string path;
};
RevisionAndPath require_revision_and_path(Call& call, const Repo& repo,
                                          const std::vector<std::string>& rest);
// 404 EntryNotFound with X-Repo-Commit.
[[noreturn]] void throw_entry_not_found(const std::string& path, const std::string& revision,
                                        const Oid& commit);

Response json_response(const Json& value, int status = 200);
// JSON from the network: 413 beyond so many values, which take far more memory than their text.
Json parse_json(const std::string& text, const std::string& source, size_t values = 200'000);
// The body as a JSON object ("" is an empty one), at most `limit` bytes; 400 otherwise.
Json read_json(Call& call, uint64_t limit = 1 << 20);
// Fields of it: 400 "field 'x': expected a string, got a list".
std::string string_field(const Json& body, const std::string& name);
std::optional<std::string> optional_string_field(const Json& body, const std::string& name);
bool bool_field(const Json& body, const std::string& name, bool otherwise);

// Paths of one repository in the API, and as people write them (a name may follow, or
// "{name}.git").
inline const std::string kRepoPattern =
    "/api/{type:models|datasets|spaces|kernels}/{namespace}/{name}";
inline const std::vector<std::string> kWebPatterns = {
    "/{type:datasets|spaces|kernels}/{namespace}/", "/{namespace}/"};

std::string type_segment(const std::string& type);  // "model" → "models"
std::string web_prefix(const std::string& type);    // "model" → "", "dataset" → "datasets/"
std::string repo_url(const Call& call, const Repo& repo);
// <base_url + path?query>; rel="next"
void add_next_link(Call& call, Response& response,
                   const std::vector<std::pair<std::string, std::string>>& changed_parameters);

// RFC 4648 with or without padding; nothing for any other byte. And the other way, padded.
std::optional<std::string> decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);

// The fields of an application/x-www-form-urlencoded body, at most `limit` bytes.
std::vector<std::pair<std::string, std::string>> read_form(Call& call, uint64_t limit = 1 << 20);

// HMAC over the parts and an expiry time, for addresses that carry their own right.
std::string sign(const Services& services, const std::vector<std::string>& parts,
                 int64_t expires_s);
bool verify_signature(const Services& services, const std::vector<std::string>& parts,
                      int64_t expires_s, const std::string& signature);

}  // namespace pretrained::server
