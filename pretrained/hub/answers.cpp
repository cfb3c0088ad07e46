#include "pretrained/hub/answers.h"

#include <algorithm>

#include "pretrained/base/files.h"
#include "pretrained/hub/url.h"

namespace pretrained::hub {
namespace {

constexpr size_t kLongestPath = 4096;

[[noreturn]] void wrong(const std::string& what, const std::string& field,
                        const std::string& expected, const Json* found) {
  throw FormatError(what + ": the hub's answer: field '" + field + "': expected " + expected +
                    ", got " + (found ? found->kind() : "nothing"));
}

const Json* present(const Json& object, const std::string& name) {
  const Json* field = object.find(name);
  return field && !field->is_null() ? field : nullptr;
}

bool boolean_field(const Json& object, const std::string& name, const std::string& what) {
  const Json* field = present(object, name);
  if (!field) return false;
  if (auto* value = field->get_if<bool>()) return *value;
  wrong(what, name, "a boolean", field);
}

const Json::Array& list_field(const Json& object, const std::string& name,
                              const std::string& what) {
  static const Json::Array empty;
  const Json* field = present(object, name);
  if (!field) return empty;
  if (auto* list = field->get_if<Json::Array>()) return *list;
  wrong(what, name, "a list", field);
}

std::string hex_field(const Json& object, const std::string& name, size_t digits,
                      const std::string& what) {
  std::string text = string_field(object, name, what);
  auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (text.size() == digits && std::all_of(text.begin(), text.end(), hex)) return text;
  throw FormatError(what + ": the hub's answer: field '" + name + "': expected " +
                    std::to_string(digits) + " hexadecimal digits, got '" + printable(text, 80) +
                    "'");
}

// Stricter than base's check_relative: no empty part, no ".", no end; and nothing that git, run in
// the folder later, would take for its own settings.
std::string path_field(const Json& file, const std::string& what) {
  std::string path = string_field(file, "path", what);
  check_relative(what, path);
  std::string framed = "/" + path + "/";
  if (path.size() > kLongestPath || framed.find("//") != framed.npos ||
      framed.find("/./") != framed.npos || framed.find("/.git/") != framed.npos)
    throw FormatError(what + ": the hub's answer: '" + printable(path) + "' is no path of a file");
  return path;
}

RemoteFile read_file_entry(const Json& entry, const std::string& what) {
  RemoteFile file;
  file.path = path_field(entry, what);
  const std::string where = what + ": " + printable(file.path);
  file.oid = hex_field(entry, "oid", 40, where);
  int64_t size = integer_field(entry, "size", where);
  if (const Json* lfs = present(entry, "lfs")) {
    file.sha256 = hex_field(*lfs, "oid", 64, where);
    size = integer_field(*lfs, "size", where);
  }
  if (size < 0) throw FormatError(where + ": the hub's answer: a size below 0");
  file.size = size;
  if (present(entry, "xetHash")) file.xet_hash = hex_field(entry, "xetHash", 64, where);
  return file;
}

std::vector<GitRef> read_ref_list(const Json& answer, const std::string& name,
                                  const std::string& what) {
  std::vector<GitRef> refs;
  for (auto& item : list_field(answer, name, what))
    refs.push_back({string_field(item, "name", what), string_field(item, "ref", what),
                    hex_field(item, "targetCommit", 40, what)});
  return refs;
}

}  // namespace

std::string string_field(const Json& object, const std::string& name, const std::string& what) {
  const Json* field = object.find(name);
  if (auto* text = field ? field->get_if<std::string>() : nullptr) return *text;
  wrong(what, name, "a string", field);
}

std::string string_field(const Json& object, const std::string& name, const std::string& what,
                         const std::string& missing) {
  return present(object, name) ? string_field(object, name, what) : missing;
}

int64_t integer_field(const Json& object, const std::string& name, const std::string& what) {
  const Json* field = object.find(name);
  if (auto* value = field ? field->get_if<int64_t>() : nullptr) return *value;
  wrong(what, name, "an integer", field);
}

int64_t integer_field(const Json& object, const std::string& name, const std::string& what,
                      int64_t missing) {
  return present(object, name) ? integer_field(object, name, what) : missing;
}

const Json::Array& array_of(const Json& answer, const std::string& what) {
  if (auto* list = answer.get_if<Json::Array>()) return *list;
  throw FormatError(what + ": the hub's answer: expected a list, got " + answer.kind());
}

Account read_account(const Json& answer, const std::string& what) {
  Account account;
  account.name = string_field(answer, "name", what);
  account.fullname = string_field(answer, "fullname", what, "");
  account.email = string_field(answer, "email", what, "");
  for (auto& item : list_field(answer, "orgs", what))
    account.organizations.push_back(
        {string_field(item, "name", what), string_field(item, "roleInOrg", what, "")});
  const Json* auth = present(answer, "auth");
  if (const Json* token = auth ? present(*auth, "accessToken") : nullptr) {
    account.token_name = string_field(*token, "displayName", what, "");
    account.token_role = string_field(*token, "role", what, "");
  }
  return account;
}

RepoInfo read_repo_info(const Json& answer, const std::string& what) {
  RepoInfo info;
  info.id = string_field(answer, "id", what);
  if (present(answer, "sha")) info.sha = hex_field(answer, "sha", 40, what);
  info.last_modified = string_field(answer, "lastModified", what, "");
  const Json* gated = present(answer, "gated");
  if (gated && !(*gated == Json(false))) info.gated = string_field(answer, "gated", what);
  info.library_name = string_field(answer, "library_name", what, "");
  info.pipeline_tag = string_field(answer, "pipeline_tag", what, "");
  info.private_ = boolean_field(answer, "private", what);
  info.downloads = integer_field(answer, "downloads", what, 0);
  info.likes = integer_field(answer, "likes", what, 0);
  for (auto& tag : list_field(answer, "tags", what)) {
    auto* text = tag.get_if<std::string>();
    if (!text) wrong(what, "tags", "strings", &tag);
    info.tags.push_back(*text);
  }
  info.json = answer;
  return info;
}

std::vector<RemoteFile> read_files(const Json& answer, const std::string& what) {
  std::vector<RemoteFile> files;
  for (auto& entry : array_of(answer, what))
    if (string_field(entry, "type", what) == "file") files.push_back(read_file_entry(entry, what));
  return files;
}

std::vector<CommitEntry> read_commits(const Json& answer, const std::string& what) {
  std::vector<CommitEntry> commits;
  for (auto& item : array_of(answer, what)) {
    CommitEntry commit{hex_field(item, "id", 40, what), string_field(item, "title", what),
                       string_field(item, "message", what, ""), string_field(item, "date", what)};
    for (auto& author : list_field(item, "authors", what))
      commit.authors.push_back(string_field(author, "user", what));
    commits.push_back(std::move(commit));
  }
  return commits;
}

GitRefs read_refs(const Json& answer, const std::string& what) {
  return {read_ref_list(answer, "branches", what), read_ref_list(answer, "tags", what),
          read_ref_list(answer, "pullRequests", what)};
}

XetToken read_xet_token(const Json& answer, const std::string& what) {
  XetToken token{string_field(answer, "accessToken", what), string_field(answer, "casUrl", what),
                 integer_field(answer, "exp", what)};
  while (token.cas_url.ends_with('/')) token.cas_url.pop_back();
  if (!parse_url(token.cas_url))
    throw FormatError(what + ": the hub's answer: field 'casUrl': '" +
                      printable(token.cas_url, 80) + "' is no address");
  return token;
}

std::string next_page(const std::string& link) {
  for (size_t at = 0; (at = link.find('<', at)) != link.npos;) {
    size_t end = link.find('>', at);
    if (end == link.npos) return "";
    size_t comma = link.find(",", end);
    std::string parameters = link.substr(end, comma == link.npos ? comma : comma - end);
    if (parameters.find("rel=\"next\"") != link.npos) return link.substr(at + 1, end - at - 1);
    at = end;
  }
  return "";
}

void check_listing(const std::vector<RemoteFile>& files, const std::string& what) {
  std::vector<std::string_view> paths;
  for (auto& file : files) paths.push_back(file.path);
  // With '/' before all else, what lies in a folder comes right after the folder's own name.
  auto before = [](unsigned char a, unsigned char b) {
    return (a == '/' ? 0 : a) < (b == '/' ? 0 : b);
  };
  std::sort(paths.begin(), paths.end(), [&](std::string_view a, std::string_view b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), before);
  });
  for (size_t i = 1; i < paths.size(); ++i) {
    std::string_view path = paths[i], last = paths[i - 1];
    if (path.starts_with(last) && (path.size() == last.size() || path[last.size()] == '/'))
      throw FormatError(what + ": the hub's answer: '" + printable(std::string(last)) +
                        "' is there twice, or both a file and a folder");
  }
}

}  // namespace pretrained::hub
