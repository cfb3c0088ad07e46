#include "pretrained/code/closure.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;

class Closure : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::canonical(fs::temp_directory_path()) /
             ("pretrained-closure-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }
  void put(const std::string& path, const std::string& text) {
    fs::create_directories((folder / path).parent_path());
    write_file_atomically(folder / path, text);
  }
  std::string names(const code::Sources& sources) {
    std::string out;
    for (auto& source : sources) out += source.path + " ";
    return out;
  }
  std::string error_of(const std::vector<std::string>& modules) {
    try {
      code::read_sources(folder, modules);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  fs::path folder;
};

TEST_F(Closure, FollowsQuotedIncludesAndSiblings) {
  put("model.h",
      "#include \"sub/a.h\"\n#  include \"config.hpp\" // x\n#include <vector>\n#include "
      "\"pretrained/model.h\"\n");
  put("sub/a.h", "#include \"b.h\"\n#include \"../shared.h\"\n#include \"sub/c.h\"\n");
  put("sub/b.h", "#include \"a.h\"\n");
  put("sub/b.cpp", "#include \"b.h\"\n#include \"only_here.h\"\n");
  put("sub/only_here.h", "");
  put("sub/c.h", "");
  put("shared.h", "");
  put("config.hpp", "");
  put("unrelated.h", "");
  EXPECT_EQ(names(code::read_sources(folder, {"model"})),
            "config.hpp model.h shared.h sub/a.h sub/b.cpp sub/b.h sub/c.h sub/only_here.h ");
  EXPECT_EQ(names(code::read_sources(folder, {"config"})), "config.hpp ");
}

TEST_F(Closure, IncludesBehindCommentsAndSplicesAreSeen) {
  for (std::string line :
       {"/**/#include \"%\"", "#/* x */include \"%\"", "\f#include \"%\"", "#inc\\\nlude \"%\"",
        "#import \"%\"", "#include_next \"%\"", "#embed \"%\"", "%:include \"%\""}) {
    size_t at = line.rfind('%');
    std::string good = line, bad = line;
    put("seen.h", "int x;\n");
    put("model.h", "// one\n" + good.replace(at, 1, "seen.h") + "\n");
    EXPECT_EQ(names(code::read_sources(folder, {"model"})), "model.h seen.h ") << line;
    put("model.h", "// one\n" + bad.replace(at, 1, "/etc/hostname") + "\n");
    EXPECT_NE(error_of({"model"}).find("model.h:2: the include '/etc/hostname' leads out"),
              std::string::npos)
        << line << error_of({"model"});
  }
}

TEST_F(Closure, AProjectWithAnIncludeFolderIsShared) {
  put("include/robo/net.h", "#include \"robo/config.h\"\n#include \"more.h\"\n");
  put("include/robo/more.h", "");
  put("include/robo/config.h", "#include \"base/types.h\"\n");
  put("include/base/types.h", "");
  auto tree = code::collect_sources({folder / "include/robo/net.h"}, {});
  EXPECT_EQ(names(tree.sources), "base/types.h robo/config.h robo/more.h robo/net.h ");
  EXPECT_EQ(tree.modules.at(folder / "include/robo/net.h"), "robo/net");
  fs::create_directories(folder / "copy");
  for (auto& source : tree.sources) put("copy/" + source.path, source.bytes);
  EXPECT_EQ(names(code::read_sources(folder / "copy", {"robo/net"})), names(tree.sources));
}

TEST_F(Closure, WhatCannotBeSharedSaysWhy) {
  auto why = [&](const char* file) {
    try {
      code::collect_sources({folder / file}, {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  put("net.h", "int x;\n#include <nowhere/config.h>\n");
  EXPECT_NE(why("net.h").find("net.h:2"), std::string::npos) << why("net.h");
  EXPECT_NE(why("net.h").find("nowhere/config.h"), std::string::npos);
  put("alone.cpp", "");
  EXPECT_NE(why("alone.cpp").find("no header of that name"), std::string::npos);
  put("pair.cpp", "#include \"pair.h\"\n");
  put("pair.h", "");
  auto tree = code::collect_sources({folder / "pair.cpp"}, {});
  EXPECT_EQ(names(tree.sources), "pair.cpp pair.h ");
  EXPECT_EQ(tree.modules.at(folder / "pair.cpp"), "pair");
}

TEST_F(Closure, NothingOutsideTheFolderIsOpened) {
  put("a.h", "\n#include \"/etc/passwd\"\n");
  EXPECT_EQ(error_of({"a"}),
            (folder / "a.h").string() + ":2: the include '/etc/passwd' leads out of the folder");
  put("b.h", "#include \"../secret.h\"\n");
  EXPECT_NE(error_of({"b"}).find(":1: the include '../secret.h' leads out"), std::string::npos);
  put("c.h", "#include </etc/shadow>\n");
  EXPECT_NE(error_of({"c"}).find("leads out"), std::string::npos);
  put("d.h", "#include <../../secret.h>\n");
  EXPECT_NE(error_of({"d"}).find("leads out"), std::string::npos);
  fs::create_symlink("/etc/hostname", folder / "e.h");
  EXPECT_NE(error_of({"e"}).find("symbolic link"), std::string::npos);
  put("f.h", "#import_include \"x\"\n%:include \"/etc/passwd\"\n");
  EXPECT_NE(error_of({"f"}).find("leads out"), std::string::npos);
  EXPECT_NE(error_of({"missing"}).find("neither missing.h nor missing.hpp"), std::string::npos);
}

TEST_F(Closure, HasLimits) {
  put("big.h", std::string(2 << 20, ' '));
  EXPECT_NE(error_of({"big"}).find("longer than"), std::string::npos);
  std::string all;
  for (int i = 0; i < 300; ++i) {
    put("f" + std::to_string(i) + ".h", "");
    all += "#include \"f" + std::to_string(i) + ".h\"\n";
  }
  put("many.h", all);
  EXPECT_NE(error_of({"many"}).find("more than 256 files"), std::string::npos);
}

TEST_F(Closure, CollectsWhatTheCompilerSaw) {
  put("project/model.h",
      "#include \"sub/inner.h\"\n#include <vector>\n/* a comment:\n#include \"not_there.h\"\n*/\n");
  put("project/sub/inner.h", "#include \"body.h\"\n");
  put("project/sub/body.h", "");
  put("project/sub/body.cc", "#include \"body.h\"\n#include \"private.h\"\n");
  put("project/sub/private.h", "");
  put("project/config/config.h", "");
  code::Toolchain toolchain;
  auto tree = code::collect_sources(
      {folder / "project/model.h", folder / "project/config/config.h"}, toolchain);
  EXPECT_EQ(tree.root, folder / "project");
  EXPECT_EQ(names(tree.sources),
            "config/config.h model.h sub/body.cc sub/body.h sub/inner.h sub/private.h ");
  EXPECT_EQ(tree.modules.at(folder / "project/config/config.h"), "config/config");
  put("project/main.cpp", "");
  EXPECT_THROW(code::collect_sources({folder / "project/main.cpp"}, toolchain), ArgumentError);
  put("project/broken.h", "#include \"nowhere.h\"\n");
  EXPECT_THROW(code::collect_sources({folder / "project/broken.h"}, toolchain), CompileError);
}

TEST_F(Closure, TheDigestSeesNamesAndBorders) {
  EXPECT_NE(code::digest({{"a", "bc"}}), code::digest({{"ab", "c"}}));
  EXPECT_NE(code::digest({{"a", ""}, {"b", ""}}), code::digest({{"a", "b"}}));
}

}  // namespace
