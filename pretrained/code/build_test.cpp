#include "pretrained/code/build.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/code/elf.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;

constexpr auto kStub =
    "#include \"a.h\"\nextern \"C\" __attribute__((visibility(\"default\"))) int answer() { return "
    "next(); }\n";

code::Sources counter(int start) {
  return {{"a.h", "inline int next() { static int value = " + std::to_string(start) +
                      "; return value++; }\n"}};
}

class Build : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-build-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder / "cache");
    chmod((folder / "cache").c_str(), 0700);
    toolchain.cache_dir = folder / "cache";
    toolchain.fingerprint = testing::UnitTest::GetInstance()->current_test_info()->name();
    // Notices come once before each compilation, in whichever process it is.
    toolchain.notice = [this](const std::string&) {
      std::ofstream(folder / "count", std::ios::app) << "x\n" << std::flush;
    };
  }
  void TearDown() override {
    unsetenv("PRETRAINED_CXX");
    fs::remove_all(folder);
  }
  size_t runs() {
    if (!fs::exists(folder / "count")) return 0;
    std::string text = read_file(folder / "count");
    return size_t(std::count(text.begin(), text.end(), '\n'));
  }
  int answer(const code::Sources& sources, const std::string& stub = kStub) {
    return reinterpret_cast<int (*)()>(
        code::load(sources, stub, "answer", toolchain).symbol("answer"))();
  }
  // In a process of its own, where nothing is loaded yet; 0 where it gave `expected`.
  template <class Call>
  int in_child(Call call) {
    pid_t child = fork();
    if (child == 0) {
      int result = 99;
      try {
        result = call();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
      }
      _exit(result);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  fs::path entry() {
    for (auto& file : fs::directory_iterator(folder / "cache"))
      if (file.path().extension() == ".so") return file.path();
    return {};
  }
  fs::path folder;
  code::Toolchain toolchain;
};

TEST_F(Build, CompilesOnceAndKeepsRevisionsApart) {
  EXPECT_EQ(answer(counter(5)), 5);
  size_t once = runs();
  EXPECT_EQ(answer(counter(5)), 6) << "the same library";
  EXPECT_EQ(answer(counter(70)), 70) << "its own statics";
  EXPECT_EQ(answer(counter(5)), 7);
  EXPECT_EQ(runs(), 2 * once);
  EXPECT_EQ(in_child([&] { return answer(counter(5)); }), 8) << "a fork has the library";
}

TEST_F(Build, ManyProcessesCompileOnce) {
  std::vector<pid_t> children;
  for (int i = 0; i < 32; ++i) {
    pid_t child = fork();
    if (child == 0) _exit(answer(counter(42)) == 42 ? 0 : 1);
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(runs(), 1u);
}

TEST_F(Build, ACrashWhileCompilingLeavesNoBadEntry) {
  fs::path slow = folder / "slow-compiler";
  write_file_atomically(slow, "#!/bin/sh\nsleep 30\n");
  chmod(slow.c_str(), 0755);
  setenv("PRETRAINED_CXX", slow.c_str(), 1);
  pid_t child = fork();
  if (child == 0) _exit(answer(counter(1)));
  while (runs() == 0) usleep(10000);
  usleep(100000);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(entry().empty());
  unsetenv("PRETRAINED_CXX");
  EXPECT_EQ(in_child([&] { return answer(counter(3)); }), 3);
}

TEST_F(Build, AChangedEntryIsNeverRun) {
  EXPECT_EQ(in_child([&] { return answer(counter(11)); }), 11);
  size_t once = runs();
  std::string bytes = read_file(entry(), 1 << 30);
  for (size_t at : {size_t(0x40), bytes.size() / 3, bytes.size() / 2, bytes.size() - 1}) {
    std::string changed = bytes;
    changed[at] = char(changed[at] ^ 1);
    write_file_atomically(entry(), changed);
    EXPECT_EQ(in_child([&] { return answer(counter(11)); }), 11);
  }
  EXPECT_EQ(runs(), 5 * once) << "each time it was built again";
  write_file_atomically(entry(), "");
  EXPECT_EQ(in_child([&] { return answer(counter(11)); }), 11);
}

TEST_F(Build, TheApiLevelIsPartOfTheKeyAndReadBeforeOpening) {
  EXPECT_EQ(in_child([&] { return answer(counter(2)); }), 2);
  auto note = code::read_note(read_file(entry(), 1 << 30));
  ASSERT_TRUE(note);
  EXPECT_EQ(note->api_level, 1u);
  EXPECT_EQ(note->key, entry().stem());
  size_t once = runs();
  toolchain.api_level = 2;
  EXPECT_EQ(in_child([&] { return answer(counter(2)); }), 2);
  EXPECT_EQ(runs(), 2 * once);
}

TEST_F(Build, CompilerErrorsComeBackWhole) {
  try {
    answer({{"a.h", "inline int next() { return undeclared + 1; }\nint x = also_unknown;\n"}});
    FAIL();
  } catch (const CompileError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("a.h:1:28: error: use of undeclared identifier 'undeclared'"),
              std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("1 more"), std::string::npos);
    EXPECT_NE(error.log.find("also_unknown"), std::string::npos);
    EXPECT_EQ(error.log.find(folder.string()), std::string::npos);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
  EXPECT_THROW(answer({{"a.h", "int next();\n"}}), CompileError) << "an undefined symbol";
}

TEST_F(Build, CompilesSiblingsAndLetsExceptionsThrough) {
  code::Sources sources = {{"a.h", "int next();\n"},
                           {"sub/b.cpp",
                            "#include \"a.h\"\n#include <stdexcept>\nint next() { throw "
                            "std::out_of_range(\"from the code\"); }\n"}};
  EXPECT_THROW(answer(sources), std::out_of_range);
}

TEST_F(Build, NoCompilerSaysWhatToInstall) {
  unsetenv("PRETRAINED_CXX");
  std::string path = getenv("PATH");
  setenv("PATH", folder.c_str(), 1);
  try {
    answer(counter(77));
    ADD_FAILURE();
  } catch (const CompileError& error) {
    EXPECT_NE(std::string(error.what()).find("install clang-19"), std::string::npos);
  }
  setenv("PATH", path.c_str(), 1);
}

TEST_F(Build, ACacheOthersCanWriteToIsRefused) {
  chmod((folder / "cache").c_str(), 0777);
  setenv("PRETRAINED_CODE_CACHE", (folder / "cache").c_str(), 1);
  EXPECT_THROW(code::default_cache_dir(), IoError);
  chmod((folder / "cache").c_str(), 0700);
  EXPECT_EQ(code::default_cache_dir(), folder / "cache");
  unsetenv("PRETRAINED_CODE_CACHE");
}

TEST(Elf, ReadsNoNoteFromOtherBytes) {
  EXPECT_FALSE(code::read_note(""));
  EXPECT_FALSE(code::read_note(std::string(64, '\0')));
  EXPECT_FALSE(code::read_note(read_file("/bin/sh", 64 << 20)));
  std::string head = read_file("/bin/sh", 64 << 20).substr(0, 64);
  EXPECT_FALSE(code::read_note(head));
}

TEST_F(Build, WhatHidesFromTheReadingIsRefused) {
  write_file_atomically(folder / "outside.h", "inline int next() { return 1; }\n");
  std::string outside = "\"" + (folder / "outside.h").string() + "\"";
  for (std::string code : {"#include " + outside, "#define F " + outside + "\n#include F",
                           "/*\n*/ #include " + outside,
                           "#pragma GCC system_header\n#define F " + outside + "\n#include F"}) {
    code += "\n// " + std::to_string(code.size());
    EXPECT_THROW(code::load({{"a.h", code + "\n"}}, kStub, "answer", toolchain), FormatError)
        << code;
    EXPECT_EQ(entry(), fs::path()) << code;
  }
  EXPECT_THROW(
      code::load({{"a.h", "inline int next() { static const unsigned char b[] = {\n#define F " +
                              outside + "\n#embed F\n}; return b[0]; }\n"}},
                 kStub, "answer", toolchain),
      Error);
}

TEST_F(Build, NoFileNameIsAnOption) {
  EXPECT_EQ(
      answer({{"-DX=1.cpp", "int here = 1;\n"}, {"a.h", "inline int next() { return 5; }\n"}}), 5);
}

TEST_F(Build, AnEntryThatIsDamagedOrNotOursIsMadeAgain) {
  auto load_once = [&] { return in_child([&] { return answer(counter(3)) == 3 ? 0 : 1; }); };
  ASSERT_EQ(load_once(), 0);
  auto made_again = [&] {
    size_t before = runs();
    EXPECT_EQ(load_once(), 0);
    return runs() > before;
  };
  EXPECT_FALSE(made_again());
  fs::path digest = entry().string() + ".seal";
  write_file_atomically(digest, read_file(digest) + "\n", 0600);
  EXPECT_TRUE(made_again());
  fs::remove(digest);
  mkfifo(digest.c_str(), 0600);
  EXPECT_TRUE(made_again());
  chmod(entry().c_str(), 0622);
  EXPECT_TRUE(made_again());
  if (geteuid() == 0) {
    ASSERT_EQ(chown(entry().c_str(), 65534, 65534), 0);
    EXPECT_TRUE(made_again());
  }
  EXPECT_FALSE(made_again());
}

TEST_F(Build, ChangedPrecompiledHeadersAreMadeAgain) {
  toolchain.pch_header = "#include <cstddef>\n";
  EXPECT_EQ(answer(counter(1)), 1);
  EXPECT_EQ(runs(), 2u) << "the headers, the code";
  EXPECT_EQ(answer(counter(2)), 2);
  EXPECT_EQ(runs(), 3u);
  size_t value = 3;
  for (std::string extension : {".pch", ".h", ".seal"}) {
    for (auto& file : fs::directory_iterator(folder / "cache")) {
      if (file.path().extension() != extension) continue;
      std::string bytes = read_file(file.path(), 1 << 30);
      bytes[bytes.size() / 2] ^= 1;
      write_file_atomically(file.path(), bytes, 0600);
    }
    size_t before = runs();
    EXPECT_EQ(answer(counter(int(value))), int(value));
    EXPECT_EQ(runs(), before + 2) << extension;
    ++value;
  }
}

TEST_F(Build, TheUsersOwnFoldersStay) {
  fs::path own = folder / "cache/tmp-my-notes";
  fs::create_directory(own);
  fs::last_write_time(own, fs::file_time_type::clock::now() - std::chrono::hours(5));
  EXPECT_EQ(answer(counter(1)), 1);
  EXPECT_TRUE(fs::exists(own));
}

}  // namespace
