#include "pretrained/code/reference.h"

#include <gtest/gtest.h>

#include "pretrained/base/error.h"

namespace {

using pretrained::code::parse_reference;

TEST(Reference, TakesTheWholeGrammar) {
  std::string commit(40, 'a');
  for (std::string text : {std::string("modeling_resnet.ResnetModel"),
                           std::string("sub/dir/module.ns::inner::Class_1"),
                           "org/re.po-x@" + commit + "--code/module-2.Class", std::string("_m._C")})
    EXPECT_EQ(parse_reference(text, "config.json").text(), text);
  auto reference = parse_reference("org/name@" + commit + "--a/b.ns::C", "config.json");
  EXPECT_EQ(reference.repo, "org/name");
  EXPECT_EQ(reference.commit, commit);
  EXPECT_EQ(reference.module, "a/b");
  EXPECT_EQ(reference.class_name, "ns::C");
}

TEST(Reference, RefusesEverythingElse) {
  std::string commit(40, 'a');
  for (std::string text : {std::string(),
                           std::string("."),
                           std::string("module"),
                           std::string("module."),
                           std::string(".Class"),
                           std::string("/abs/evil.C"),
                           std::string("/abs--cfg.C"),
                           std::string("../m.C"),
                           std::string("a/../b.C"),
                           std::string("a//b.C"),
                           std::string("./m.C"),
                           std::string("a..b.C"),
                           std::string("m.h.C"),
                           std::string("m.1C"),
                           std::string("m.C::"),
                           std::string("m.::C"),
                           std::string("m.C;system()"),
                           std::string("m.C()"),
                           std::string("m.C D"),
                           std::string("m.C\n"),
                           std::string("m\0.C", 4),
                           std::string("m.Cé"),
                           std::string("м.C"),
                           std::string("m\\x.C"),
                           std::string("org/repo--m.C"),
                           std::string("org/repo@main--m.C"),
                           "org/repo@" + commit.substr(1) + "--m.C",
                           "org/repo@" + std::string(40, 'A') + "--m.C",
                           "repo@" + commit + "--m.C",
                           "a/b/c@" + commit + "--m.C",
                           "../x@" + commit + "--m.C",
                           "org/repo@" + commit + "--org/repo@" + commit + "--m.C",
                           std::string("m.C\"), system(\""),
                           "m." + std::string(300, 'C')})
    EXPECT_THROW(parse_reference(text, "config.json"), pretrained::FormatError) << text;
}

}  // namespace
