#pragma once
// Sources → the bytes of a shared library. Compiler and linker run in the sandbox; what comes out
// has passed the audit. (The cache around it: build.h.)

#include <set>
#include <string>
#include <vector>

#include "pretrained/code/closure.h"
#include "pretrained/code/elf.h"
#include "pretrained/code/toolchain.h"

namespace pretrained::code {

struct Compiler {
  std::filesystem::path path;
  std::string identity;  // changes with the program
  bool clang = false;
  std::vector<std::string> flags, link_flags;
};
Compiler describe_compiler(const Toolchain& toolchain);

// The names by which a library may need those of the toolchain.
std::set<std::string> needed_libraries(const Toolchain& toolchain);

// Throws CompileError with the compiler's output, FormatError for code that reads what it may not
// or a library that fails the audit.
std::string compile(const Sources& sources, const std::string& stub, const std::string& entry,
                    const Note& note, const Toolchain& toolchain, const Compiler& compiler);

}  // namespace pretrained::code
