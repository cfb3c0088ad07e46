#include "server/git/rules.h"

#include <git2.h>
#include <git2/sys/path.h>

#include <algorithm>

namespace pretrained::server {
namespace {

constexpr size_t kMaxPath = 4096, kMaxParts = 256;
constexpr size_t kMaxAttributesLine = 2048, kMaxAttributes = 100 << 20;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return (x >= 'A' && x <= 'Z' ? x + 32 : x) == y;
         });
}

// NTFS: "git~1" is the short name of ".git"; dots and spaces at the end, and streams, do not count.
bool is_ntfs_dotgit(std::string_view name) {
  size_t length = name.size() >= 4 && equals_ignoring_case(name.substr(0, 4), ".git")    ? 4
                  : name.size() >= 5 && equals_ignoring_case(name.substr(0, 5), "git~1") ? 5
                                                                                         : 0;
  if (length == 0) return false;
  size_t end = name.find_first_not_of(". ", length);
  return end == name.npos || name[end] == '\\' || name[end] == ':';
}

// HFS+ ignores these characters in names: U+200C–200F, U+202A–202E, U+206A–206F, U+FEFF.
bool is_hfs_dotgit(std::string_view name) {
  std::string seen;
  for (size_t i = 0; i < name.size(); ++i) {
    auto byte = [&](size_t k) { return i + k < name.size() ? uint8_t(name[i + k]) : 0; };
    bool general =
        byte(0) == 0xe2 && ((byte(1) == 0x80 && ((byte(2) >= 0x8c && byte(2) <= 0x8f) ||
                                                 (byte(2) >= 0xaa && byte(2) <= 0xae))) ||
                            (byte(1) == 0x81 && byte(2) >= 0xaa && byte(2) <= 0xaf));
    bool mark = byte(0) == 0xef && byte(1) == 0xbb && byte(2) == 0xbf;
    if (general || mark)
      i += 2;
    else
      seen += name[i];
  }
  return equals_ignoring_case(seen, ".git");
}

bool is_git_file(std::string_view name, git_path_gitfile which) {
  for (size_t begin = 0; begin != name.npos;) {
    std::string_view part = name.substr(begin);
    if (git_path_is_gitfile(part.data(), part.size(), which, GIT_PATH_FS_GENERIC) > 0) return true;
    size_t backslash = name.find('\\', begin);
    begin = backslash == name.npos ? name.npos : backslash + 1;
  }
  return false;
}

std::string check_part(std::string_view part) {
  if (part.empty()) return "has an empty part";
  if (part == "." || part == "..") return "has the part '" + std::string(part) + "'";
  if (is_hfs_dotgit(part)) return "has a part that is '.git' on some systems";
  for (size_t begin = 0; begin != part.npos;) {
    if (is_ntfs_dotgit(part.substr(begin))) return "has a part that is '.git' on some systems";
    size_t backslash = part.find('\\', begin);
    begin = backslash == part.npos ? part.npos : backslash + 1;
  }
  return "";
}

}  // namespace

void check_path(const std::string& path) {
  auto refuse = [&](const std::string& why) {
    throw FormatError("path '" + printable(path) + "': " + why);
  };
  if (path.size() > kMaxPath) refuse("longer than " + std::to_string(kMaxPath) + " bytes");
  if (path.find('\0') != path.npos) refuse("holds a NUL");
  size_t parts = 0;
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    std::string problem = check_part(std::string_view(path).substr(begin, end - begin));
    if (!problem.empty()) refuse(problem);
    if (++parts > kMaxParts) refuse("more than " + std::to_string(kMaxParts) + " folders deep");
    begin = end + 1;
  }
}

void check_git_file(const std::string& path, std::string_view content) {
  std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
  if (is_git_file(name, GIT_PATH_GITFILE_GITMODULES))
    throw FormatError("path '" + printable(path) + "': submodules are only accepted by git push");
  if (!is_git_file(name, GIT_PATH_GITFILE_GITATTRIBUTES)) return;
  if (content.size() > kMaxAttributes)
    throw FormatError("'" + printable(path) + "': too large for git (gitattributesLarge)");
  for (size_t begin = 0; begin < content.size();) {
    size_t end = std::min(content.find('\n', begin), content.size());
    if (end - begin >= kMaxAttributesLine)
      throw FormatError("'" + printable(path) +
                        "': a line of 2,048 bytes or more, which git refuses "
                        "(gitattributesLineLength)");
    begin = end + 1;
  }
}

void check_message(const std::string& text) {
  if (text.find('\0') != text.npos) throw FormatError("commit message: holds a NUL");
}

bool is_ref_name(const std::string& name) {
  int valid = 0;
  return name.rfind("refs/", 0) == 0 && name.size() <= 512 && name.find('\0') == name.npos &&
         name.find('\n') == name.npos && git_reference_name_is_valid(&valid, name.c_str()) == 0 &&
         valid;
}

std::string signature_line(const Person& person, int64_t seconds) {
  auto clean = [](const std::string& text, const std::string& otherwise) {
    std::string result;
    for (char c : text)
      if (uint8_t(c) >= 32 && c != '<' && c != '>' && c != 127) result += c;
    size_t begin = result.find_first_not_of(" .,:;\"\\'");
    size_t end = result.find_last_not_of(" .,:;\"\\'");
    return begin == result.npos ? otherwise : result.substr(begin, end - begin + 1);
  };
  return clean(person.name, "unknown") + " <" + clean(person.email, "") + "> " +
         std::to_string(seconds) + " +0000";
}

}  // namespace pretrained::server
