#include "pretrained/code/reference.h"

#include <algorithm>

#include "pretrained/base/error.h"

namespace pretrained::code {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_identifier(const std::string& text) {
  return !text.empty() && text.size() <= 200 && (is_letter(text[0]) || text[0] == '_') &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

// A part of a path or of a repository's name: no dot in front, so neither "." nor "..".
bool is_part(const std::string& text) {
  return !text.empty() && text.size() <= 96 &&
         (is_letter(text[0]) || is_digit(text[0]) || text[0] == '_') &&
         text.find("--") == text.npos && text.find("..") == text.npos &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
         });
}

template <class Check>
bool all_parts(const std::string& text, const std::string& separator, Check check) {
  for (size_t begin = 0;;) {
    size_t end = text.find(separator, begin);
    if (!check(text.substr(begin, end - begin))) return false;
    if (end == text.npos) return true;
    begin = end + separator.size();
  }
}

bool is_commit(const std::string& text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return is_digit(c) || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

std::string Reference::text() const {
  return (repo.empty() ? "" : repo + "@" + commit + "--") + module + "." + class_name;
}

Reference parse_reference(const std::string& text, const std::string& source) {
  auto fail = [&](const std::string& why) {
    throw FormatError(source + ": class reference '" + printable(text) + "': " + why +
                      "; expected [org/repo@<commit>--]sub/dir/module.[namespace::]Class");
  };
  Reference reference;
  std::string rest = text;
  if (size_t dashes = rest.find("--"); dashes != rest.npos) {
    std::string repo = rest.substr(0, dashes);
    rest = rest.substr(dashes + 2);
    size_t at = repo.find('@');
    if (at == repo.npos) fail("code of another repository needs its commit");
    reference.commit = repo.substr(at + 1);
    reference.repo = repo.substr(0, at);
    if (!is_commit(reference.commit)) fail("the commit must be 40 lower-case hexadecimal digits");
    if (std::count(reference.repo.begin(), reference.repo.end(), '/') != 1 ||
        !all_parts(reference.repo, "/", is_part))
      fail("the repository must be org/name");
  }
  size_t dot = rest.rfind('.');
  if (dot == rest.npos) fail("it names no class");
  reference.module = rest.substr(0, dot);
  reference.class_name = rest.substr(dot + 1);
  if (reference.module.size() > 512 || reference.module.find('.') != rest.npos ||
      !all_parts(reference.module, "/", is_part))
    fail("the module must be a path inside the folder, without extension");
  if (!all_parts(reference.class_name, "::", is_identifier)) fail("the class must be a C++ name");
  return reference;
}

}  // namespace pretrained::code
