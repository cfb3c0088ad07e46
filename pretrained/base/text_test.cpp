#include "pretrained/base/text.h"

#include <gtest/gtest.h>

namespace pretrained {
namespace {

TEST(Text, NearMatches) {
  EXPECT_EQ(near_match("mian", {"main", "dev"}), "main");
  EXPECT_EQ(near_match("confg.json", {"README.md", "config.json", "config.yml"}), "config.json");
  EXPECT_EQ(near_match("x", {"main"}), "");
  EXPECT_EQ(near_match("ab", {"x", "cd"}), "") << "what shares no letter is not near";
  EXPECT_EQ(near_match(std::string(100'000, 'x'), {std::string(3, 'x')}), "");
  EXPECT_EQ(suggestion("mian", {"main"}), "; did you mean 'main'?");
  EXPECT_EQ(suggestion("mai\x1b", {"mai\x1b["}), "; did you mean 'mai\\x1b['?");
}

}  // namespace
}  // namespace pretrained
