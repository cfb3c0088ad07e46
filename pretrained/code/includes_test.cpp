#include "pretrained/code/includes.h"

#include <gtest/gtest.h>

#include "pretrained/base/error.h"

namespace {

using namespace pretrained;

std::string found(const std::string& text) {
  std::string out;
  try {
    for (auto& include : code::scan_includes(text, "a.h"))
      out += include.name + "@" + std::to_string(include.line) + " ";
  } catch (const FormatError& error) {
    return error.what();
  }
  return out;
}

TEST(Includes, AreReadAsACompilerDoes) {
  EXPECT_EQ(
      found("#include <vector>\n  #  include \"b.h\" // x\n%:include \"c.h\"\n#import \"d.h\""),
      "vector@1 b.h@2 c.h@3 d.h@4 ");
  EXPECT_EQ(found("#inc\\\nlude \"b.h\"\n#include /*\n*/ \"c.h\"\n"), "b.h@1 c.h@3 ");
  EXPECT_EQ(found("#inc\\ \t\nlude \"b.h\"\r\n#include \"c.h\"\r#include \"d.h\""),
            "b.h@1 c.h@3 d.h@4 ");
  EXPECT_EQ(found("\xef\xbb\xbf#include \"b.h\"\n/*\n*/ #include \"c.h\"\n"), "b.h@1 c.h@3 ");
  EXPECT_EQ(found("#if __has_include(<optional>) && __has_embed(\"b\")\n#endif\n"),
            "optional@1 b@1 ");
}

TEST(Includes, AreNotSeenWhereThereAreNone) {
  for (std::string text : {"/*\n#include <unistd.h>\n*/", "// \\\n#include <unistd.h>\n",
                           "auto s = R\"(\n#include <unistd.h>\n)\";",
                           "auto s = u8R\"x(\n)\"\n#include <unistd.h>\n)x\";",
                           "int a; #include <unistd.h>\n", "#define X #include <unistd.h>\n",
                           "#ifdef __has_include\n#endif\n", "int million = 1'000'000; // it's\n"})
    EXPECT_EQ(found(text), "") << text;
  // What looks like a beginning and is none hides nothing.
  for (std::string text :
       {"auto s = \"/*\";\n#include <unistd.h>\n", "char c = '\"';\n#include <unistd.h>\n",
        "// /*\n#include <unistd.h>\n", "#if 0\ndon't\n#endif\n#include <unistd.h>\n",
        "int x = 1'0;\n#include <unistd.h>//'\n", "auto s = \"\\\\\";/*\"*/\n#include <unistd.h>\n",
        "int x$R; auto s = x$R\"(\";\n#include <unistd.h>\n//)\"\n",
        "auto s = \"R\\\"(\";\n#include <unistd.h>\n", "#include \"b.h\n#include <unistd.h>\n"})
    EXPECT_NE(found(text).find("includes <unistd.h>"), std::string::npos) << text << found(text);
}

TEST(Includes, WhatIsNotForModelCodeIsRefusedWithItsLine) {
  for (auto& [line, why] : std::initializer_list<std::pair<std::string, std::string>>{
           {"#include <sys/socket.h>", "includes <sys/socket.h>"},
           {"#include <unistd.h>", "includes <unistd.h>"},
           {"#include <dlfcn.h>", "includes <dlfcn.h>"},
           {"#include <Python.h>", "includes <Python.h>"},
           {"#include <bits/stdc++.h>", "includes <bits/stdc++.h>"},
           {"#include </etc/passwd>", "leads out"},
           {"#include \"/etc/passwd\"", "leads out"},
           {"#include <torch/../../secret>", "leads out"},
           {"#define H <vector>\n#include H", "spelled out"},
           {"#include __FILE__", "spelled out"},
           {"#if __has_include(\"/home/x/.ssh/id_rsa\")", "leads out"},
           {"#if __has_include(<linux/bpf.h>)", "includes <linux/bpf.h>"},
           {"const char x[] = {\n#embed </dev/urandom> limit(10)\n};", "leads out"},
           {"asm(\".incbin \\\"/etc/passwd\\\"\");", "'.incbin'"},
           {"asm(R\"(.incbin \"x\")\");", "'.incbin'"},
           {"#pragma GCC dependency \"/etc/passwd\"", "'#pragma GCC dependency' is not"},
           {"_Pragma(\"GCC dependency \\\"x\\\"\")", "'#pragma GCC dependency' is not"},
           {"#pragma include_alias(<vector>, <unistd.h>)", "'#pragma include_alias"},
           {"#pragma GCC system_header", "'#pragma GCC system_header'"},
           {"#pragma GCC pch_preprocess \"x\"", "'#pragma GCC pch_preprocess'"},
           {"#pragma clang module import std", "'#pragma clang module'"},
           {"#pragma comment(lib, \"evil\")", "'#pragma comment"},
           {std::string("int x;\0", 7), "zero byte"}}) {
    EXPECT_NE(found("\n" + line + "\n").find(why), std::string::npos) << line << "\n"
                                                                      << found("\n" + line + "\n");
    EXPECT_EQ(found("\n" + line + "\n").find("a.h:"), 0u) << line;
  }
  EXPECT_EQ(found("#pragma once\n#pragma GCC diagnostic push\n#pragma omp parallel for\n"
                  "#pragma clang loop unroll(full)\n#pragma STDC FP_CONTRACT OFF\n"),
            "");
}

}  // namespace
