#pragma once
// What a hub answers, read into our types. Every byte is checked: a missing field, a wrong kind, a
// path that leads out of its folder, an id that is none is a FormatError that names the field.

#include <string>
#include <vector>

#include "pretrained/base/json.h"
#include "pretrained/hub/client.h"

namespace pretrained::hub {

// `what` begins the messages.
PRETRAINED_API Account read_account(const Json& answer, const std::string& what);
PRETRAINED_API RepoInfo read_repo_info(const Json& answer, const std::string& what);
// Without the folders.
PRETRAINED_API std::vector<RemoteFile> read_files(const Json& answer, const std::string& what);
PRETRAINED_API std::vector<CommitEntry> read_commits(const Json& answer, const std::string& what);
PRETRAINED_API GitRefs read_refs(const Json& answer, const std::string& what);
PRETRAINED_API XetToken read_xet_token(const Json& answer, const std::string& what);
// The address of `Link: <…>; rel="next"`, or "".
PRETRAINED_API std::string next_page(const std::string& link);

// No file twice, and none that is another one's folder.
PRETRAINED_API void check_listing(const std::vector<RemoteFile>& files, const std::string& what);

// Fields. A default makes one optional, also where it is null.
std::string string_field(const Json& object, const std::string& name, const std::string& what);
std::string string_field(const Json& object, const std::string& name, const std::string& what,
                         const std::string& missing);
int64_t integer_field(const Json& object, const std::string& name, const std::string& what);
int64_t integer_field(const Json& object, const std::string& name, const std::string& what,
                      int64_t missing);
const Json::Array& array_of(const Json& answer, const std::string& what);

}  // namespace pretrained::hub
