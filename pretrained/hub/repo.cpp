#include <algorithm>

#include "pretrained/base/text.h"
#include "pretrained/hub/client.h"

namespace pretrained::hub {
namespace {

constexpr size_t kLongestId = 96, kLongestRevision = 1024;

bool is_name(std::string_view text) {
  auto letter = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           c == '-' || c == '.';
  };
  auto edge = [](char c) { return c == '-' || c == '.'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), letter) && !edge(text.front()) &&
         !edge(text.back()) && text.find("--") == text.npos && text.find("..") == text.npos &&
         !text.ends_with(".git");
}

bool is_repo_id(std::string_view id) {
  size_t slash = id.find('/');
  return slash != id.npos && id.size() <= kLongestId && is_name(id.substr(0, slash)) &&
         is_name(id.substr(slash + 1));
}

}  // namespace

void check_repo_id(const std::string& id) {
  if (!is_repo_id(id))
    throw ArgumentError("'" + printable(id) +
                        "' is no repository: expected owner/name, of letters, digits, '-', '_' "
                        "and '.', without '--' or '..'");
}

RepoType parse_repo_type(const std::string& text) {
  for (auto type : {RepoType::model, RepoType::dataset, RepoType::space})
    if (text == type_name(type) || text == std::string(type_name(type)) + "s") return type;
  throw ArgumentError("'" + printable(text) + "' is no type: expected model, dataset or space");
}

const char* type_name(RepoType type) {
  return type == RepoType::model ? "model" : type == RepoType::dataset ? "dataset" : "space";
}

std::optional<RepoReference> parse_repo_reference(const std::string& text) {
  size_t at = text.find('@');
  RepoReference reference{text.substr(0, at)};
  if (!is_repo_id(reference.id)) return {};
  if (at == text.npos) return reference;
  reference.revision = text.substr(at + 1);
  bool plain = std::all_of(reference.revision.begin(), reference.revision.end(),
                           [](unsigned char c) { return c > ' ' && c != 127; });
  if (!plain || reference.revision.empty() || reference.revision.size() > kLongestRevision)
    return {};
  return reference;
}

bool is_commit_hash(std::string_view text) { return is_hex(text, 40); }

}  // namespace pretrained::hub
