#pragma once
// The rules of .gitattributes and .gitignore files, as far as an upload asks for them: is a file
// LFS, is it ignored. Patterns as in gitignore(5); every step is bounded, whatever the pattern.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pretrained::server {

// One pattern of such a file; `path` is relative to the file's folder.
class PathPattern {
 public:
  explicit PathPattern(std::string_view text);
  bool matches(std::string_view path, bool is_folder) const;
  size_t size() const { return glob_.size(); }

 private:
  std::string glob_;
  bool anchored_ = false, only_folders_ = false;
};

// `text` against a glob of *, **, ?, [a-z], \x; "*" and "?" stop at '/'. In time |glob| · |text|.
bool glob_match(std::string_view glob, std::string_view text);

// The files of one name in all folders above a path, read when first needed.
class PathRules {
 public:
  // `read("a/b")` gives the text of the file in that folder ("" is the root), if there is one.
  using Read = std::function<std::optional<std::string>(const std::string& folder)>;
  explicit PathRules(Read read) : read_(std::move(read)) {}

 protected:
  struct Rule {
    PathPattern pattern;
    std::string value;
  };
  // Nothing says so: nullopt. Otherwise the value of the last rule that matches `path`, in the
  // deepest folder that has one.
  std::optional<std::string> find(const std::string& path, bool is_folder);
  virtual std::vector<Rule> parse(const std::string& text) const = 0;
  ~PathRules() = default;

 private:
  const std::vector<Rule>& rules(const std::string& folder);

  Read read_;
  std::map<std::string, std::vector<Rule>> folders_;
  uint64_t work_ = 0;  // FormatError beyond a limit: hostile patterns and paths
};

class AttributeRules : public PathRules {
 public:
  using PathRules::PathRules;
  // filter=lfs, another filter or none, or nothing said.
  std::optional<bool> is_lfs(const std::string& path);

 protected:
  std::vector<Rule> parse(const std::string& text) const override;
};

class IgnoreRules : public PathRules {
 public:
  using PathRules::PathRules;
  bool ignored(const std::string& path);

 protected:
  std::vector<Rule> parse(const std::string& text) const override;
};

}  // namespace pretrained::server
