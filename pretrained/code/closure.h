#pragma once
// The source files that belong to shared code: a header and everything it reaches by quoted
// includes.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pretrained/code/toolchain.h"

namespace pretrained::code {

struct SourceFile {
  std::string path;  // relative to the root, parts separated by '/'
  std::string bytes;
};
using Sources = std::vector<SourceFile>;  // sorted by path

// Reads, without running anything and without opening anything outside `folder`, each module's .h
// (else .hpp) and every file its quoted includes reach, relative to the includer or to the folder;
// a .cc or .cpp of the same stem beside a header belongs to it. Quoted includes that are not in the
// folder are left to the compiler. Includes that are absolute or lead out of the folder are a
// FormatError naming file and line; a missing module is a NotFoundError. At most 256 files of 1
// MiB, 8 MiB together.
PRETRAINED_API Sources read_sources(const std::filesystem::path& folder,
                                    const std::vector<std::string>& modules);

// The other direction, for saving: what `headers` of this program really include, from the
// compiler's own dependency list; ours and LibTorch's headers are not part of it. The root is the
// deepest folder that holds all, or the folder above from which they name each other, as
// "robo/config.h" in a project with an include/ folder. A .cpp stands for the header beside it.
struct SourceTree {
  std::filesystem::path root;
  Sources sources;
  std::map<std::filesystem::path, std::string> modules;  // header as given → "sub/dir/module"
};
// Throws ArgumentError for a class that is not written in a header, CompileError, NotFoundError.
PRETRAINED_API SourceTree collect_sources(const std::vector<std::filesystem::path>& headers,
                                          const Toolchain& toolchain);

// The rules of includes.h for every file that is code; data that is only embedded may be anything.
// Messages name the file, below `root` where one is given. Throws FormatError.
PRETRAINED_API void check_sources(const Sources& sources, const std::filesystem::path& root = {});

// The files of a make rule, "a.o: b.h \\\n c.h", as compilers write it for -MD.
PRETRAINED_API std::vector<std::string> parse_dependencies(const std::string& rule);

// SHA-256 over paths and bytes.
PRETRAINED_API std::string digest(const Sources& sources);

}  // namespace pretrained::code
