#include "server/api/path_rules.h"

#include <gtest/gtest.h>

#include "pretrained/base/error.h"

namespace pretrained::server {
namespace {

TEST(Glob, AsGitHasIt) {
  EXPECT_TRUE(glob_match("*.bin", "model.bin"));
  EXPECT_FALSE(glob_match("*.bin", "a/model.bin"));
  EXPECT_TRUE(glob_match("**/x", "x"));
  EXPECT_TRUE(glob_match("**/x", "a/b/x"));
  EXPECT_FALSE(glob_match("**/x", "ax"));
  EXPECT_TRUE(glob_match("a/**/b", "a/b"));
  EXPECT_TRUE(glob_match("a/**/b", "a/x/y/b"));
  EXPECT_TRUE(glob_match("a/**", "a/x/y"));
  EXPECT_FALSE(glob_match("a/**", "a"));
  EXPECT_TRUE(glob_match("saved_model/**/*", "saved_model/variables/v.data"));
  EXPECT_TRUE(glob_match("*tfevents*", "events.out.tfevents.1"));
  EXPECT_TRUE(glob_match("[a-c]?[!x]", "bqz"));
  EXPECT_FALSE(glob_match("[a-c]?[!x]", "bqx"));
  EXPECT_TRUE(glob_match("a[", "a["));
  EXPECT_TRUE(glob_match("\\*", "*"));
  EXPECT_FALSE(glob_match("\\*", "a"));
  EXPECT_FALSE(glob_match("?", "/"));
}

std::string many(const std::string& text, int n) {
  std::string result;
  for (int i = 0; i < n; ++i) result += text;
  return result;
}

TEST(Glob, HostilePatternsTakeNoTime) {
  EXPECT_FALSE(glob_match(many("*a", 300), std::string(900, 'a') + "b"));
  EXPECT_FALSE(glob_match(many("**/", 300) + "x", many("a/", 1000)));
}

PathRules::Read root(const std::string& text) {
  return [text](const std::string& folder) -> std::optional<std::string> {
    if (folder.empty()) return text;
    return std::nullopt;
  };
}

TEST(Attributes, TheLastRuleWinsAndDeeperFoldersWin) {
  AttributeRules rules([](const std::string& folder) -> std::optional<std::string> {
    if (folder.empty())
      return "# comment\n*.bin filter=lfs diff=lfs merge=lfs -text\r\n/top.txt filter=lfs\n"
             "small.bin !filter\n*.md text\ndata/** filter=lfs\n";
    if (folder == "sub") return "*.bin -filter\n";
    return std::nullopt;
  });
  EXPECT_EQ(rules.is_lfs("model.bin"), true);
  EXPECT_EQ(rules.is_lfs("deep/er/model.bin"), true);
  EXPECT_EQ(rules.is_lfs("small.bin"), false);
  EXPECT_EQ(rules.is_lfs("sub/model.bin"), false);
  EXPECT_EQ(rules.is_lfs("sub/x/model.bin"), false);
  EXPECT_EQ(rules.is_lfs("top.txt"), true);
  EXPECT_EQ(rules.is_lfs("sub/top.txt"), std::nullopt);
  EXPECT_EQ(rules.is_lfs("a.md"), std::nullopt);
  EXPECT_EQ(rules.is_lfs("data/x/y.json"), true);
}

TEST(Ignore, FoldersNegationAndAnchors) {
  IgnoreRules rules(root("__pycache__/\n*.log\n!keep.log\n/build\nlogs/\n!logs/keep.log\na/b\n"));
  EXPECT_TRUE(rules.ignored("x/__pycache__/m.pyc"));
  EXPECT_FALSE(rules.ignored("__pycache__"));  // the pattern is for folders
  EXPECT_TRUE(rules.ignored("deep/a.log"));
  EXPECT_FALSE(rules.ignored("keep.log"));
  EXPECT_TRUE(rules.ignored("build/x"));
  EXPECT_FALSE(rules.ignored("src/build/x"));
  EXPECT_TRUE(rules.ignored("logs/keep.log"));  // its folder is ignored
  EXPECT_TRUE(rules.ignored("a/b"));
  EXPECT_FALSE(rules.ignored("x/a/b"));
}

TEST(Rules, HostileFilesAreRefusedNotMatchedForHours) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "/" + many("*a", 400) + "/x filter=lfs\n";
  AttributeRules rules(root(text));
  EXPECT_THROW(
      {
        for (int i = 0; i < 100; ++i) rules.is_lfs(std::string(4000, 'a'));
      },
      FormatError);
  AttributeRules deep(root("*.bin filter=lfs\n"));
  EXPECT_EQ(deep.is_lfs(many("a/", 2000) + "x.bin"), std::nullopt);
}

}  // namespace
}  // namespace pretrained::server
