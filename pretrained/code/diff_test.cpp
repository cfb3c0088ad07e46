#include "pretrained/code/diff.h"

#include <gtest/gtest.h>

#include <random>
#include <sstream>

namespace {

using namespace pretrained::code;

TEST(Diff, IsWhatDiffUWrites) {
  Sources before = {{"a.h", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n"},
                    {"gone.h", "old\n"},
                    {"same.h", "x\n"}};
  Sources after = {{"a.h", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n"},
                   {"new.h", "new"},
                   {"same.h", "x\n"}};
  EXPECT_EQ(unified_diff(before, after),
            "--- a/a.h\n+++ b/a.h\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
            "@@ -14,3 +14,4 @@\n 14\n 15\n 16\n+17\n"
            "--- a/gone.h\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-old\n"
            "--- /dev/null\n+++ b/new.h\n@@ -0,0 +1,1 @@\n+new\n\\ No newline at end of file\n");
  EXPECT_EQ(unified_diff(before, before), "");
}

TEST(Diff, EveryChangedByteShows) {
  std::string text = "int a;\n\tint b;\nint c;\n";
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] ^= 1;
    EXPECT_NE(unified_diff({{"a.h", text}}, {{"a.h", changed}}), "") << i;
    EXPECT_NE(unified_diff({{"a.h", text}}, {{"a.h", text.substr(0, i)}}), "") << i;
  }
  EXPECT_NE(unified_diff({{"a.h", text}}, {{"b.h", text}}), "");
}

TEST(Diff, WhatMisleadsIsEscaped) {
  auto diff = unified_diff({}, {{"a\x1b[31m.h", "x\x1b[2K\r // \u202e\u200b\n"}});
  EXPECT_EQ(diff.find('\x1b'), diff.npos);
  EXPECT_EQ(diff.find('\r'), diff.npos);
  EXPECT_NE(diff.find("\\u{202e}\\u{200b}"), diff.npos) << diff;
  EXPECT_NE(diff.find("a\\x1b[31m.h"), diff.npos) << diff;
}

TEST(Diff, LongLinesAndLongDiffsAreCutAndSayIt) {
  auto wide = unified_diff({}, {{"a.h", std::string(5000, 'x') + "\n"}});
  EXPECT_LT(wide.size(), 600u);
  EXPECT_NE(wide.find("… (4600 more bytes in this line)"), wide.npos) << wide;
  std::string many;
  for (int i = 0; i < 100000; ++i) many += "line " + std::to_string(i) + "\n";
  auto tall = unified_diff({{"a.h", many}}, {}, 50);
  EXPECT_NE(tall.find("… (99953 more lines)\n"), tall.npos) << tall.substr(tall.size() - 50);
  // Nothing in common: no search that takes for ever.
  std::string other;
  for (int i = 0; i < 100000; ++i) other += "other " + std::to_string(i) + "\n";
  EXPECT_NE(unified_diff({{"a.h", many}}, {{"a.h", other}}), "");
}

// Applied to the old text, the signs give the new one.
TEST(Diff, OfRandomTextsIsTrue) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string before, after;
    for (unsigned i = random() % 12; i > 0; --i)
      before += std::string{char('a' + random() % 3), '\n'};
    for (unsigned i = random() % 12; i > 0; --i)
      after += std::string{char('a' + random() % 3), '\n'};
    std::istringstream rows(unified_diff({{"x", before}}, {{"x", after}}));
    std::vector<std::string> old_lines, rebuilt;
    std::istringstream lines(before);
    for (std::string line; std::getline(lines, line);) old_lines.push_back(line);
    size_t at = 0;
    for (std::string row; std::getline(rows, row);) {
      if (row.starts_with("---") || row.starts_with("+++")) continue;
      if (row.starts_with("@@")) {
        size_t begin = std::stoul(row.substr(4)), count = std::stoul(row.substr(row.find(',') + 1));
        for (begin -= count > 0; at < begin; ++at) rebuilt.push_back(old_lines[at]);
        continue;
      }
      if (row[0] != '+') ASSERT_EQ(row.substr(1), old_lines[at++]);
      if (row[0] != '-') rebuilt.push_back(row.substr(1));
    }
    for (; at < old_lines.size(); ++at) rebuilt.push_back(old_lines[at]);
    std::string text;
    for (auto& line : rebuilt) text += line + "\n";
    ASSERT_EQ(text, after) << before << "→\n" << after;
  }
}

}  // namespace
