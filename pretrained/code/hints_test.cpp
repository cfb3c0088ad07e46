#include "pretrained/code/hints.h"

#include <gtest/gtest.h>

namespace {

using namespace pretrained::code;

std::string hint_of(const std::string& line) {
  auto hints = find_hints({{"a.h", "int x;\n" + line + "\n"}});
  if (hints.empty()) return "";
  EXPECT_EQ(hints[0].line, 2u);
  return hints[0].what;
}

TEST(Hints, NameWhatCodeCanDo) {
  EXPECT_EQ(hint_of("int s = ::socket(AF_INET, SOCK_STREAM, 0);"), "network");
  EXPECT_EQ(hint_of("  std::system(\"id\");"), "starts programs");
  EXPECT_EQ(hint_of("execve(path, argv, environ);"), "starts programs");
  EXPECT_EQ(hint_of("FILE* f = popen(\"id\", \"r\");"), "starts programs");
  EXPECT_EQ(hint_of("dlopen(\"libc.so\", 1);"), "loads libraries");
  EXPECT_EQ(hint_of("asm volatile(\"syscall\");"), "assembly");
  EXPECT_EQ(hint_of("std::ofstream out(\"x\");"), "files");
  EXPECT_EQ(hint_of("std::thread t(run);"), "threads");
  EXPECT_EQ(hint_of("getenv(\"HOME\")"), "environment");
  EXPECT_EQ(hint_of("mprotect(p, n, 7);"), "raw memory");
  EXPECT_EQ(hint_of("__attribute__((constructor)) void f();"), "attributes");
  EXPECT_EQ(hint_of("#  pragma comment(lib, \"x\")"), "pragma");
  EXPECT_EQ(hint_of("_Pragma(\"GCC poison x\")"), "pragma");
  EXPECT_EQ(hint_of("int a; // \u202e"), "hidden characters");
  EXPECT_EQ(hint_of("int b;" + std::string(500, ' ') + "int c;"), "long line");
}

TEST(Hints, OrdinaryCodeHasNone) {
  for (auto* line : {"#pragma once", "torch::Tensor y = x.clone();", "int sockets = 3;",
                     "// Grüße: ∑ x²", "\tint tab;", "int windows;\r", "reset_system_state();"})
    EXPECT_EQ(hint_of(line), "") << line;
}

TEST(Hints, AreBoundedAndSafeToPrint) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "system(\"\x1b[2J" + std::string(300, 'x') + "\");\n";
  auto hints = find_hints({{"a.h", text}}, 10);
  ASSERT_EQ(hints.size(), 10u);
  EXPECT_EQ(hints[0].text.find('\x1b'), std::string::npos);
  EXPECT_LT(hints[0].text.size(), 130u);
}

}  // namespace
