#pragma once
// Compiled once, loaded for good: sources → shared library, cached by content.

#include <filesystem>
#include <string>

#include "pretrained/base/files.h"
#include "pretrained/code/closure.h"
#include "pretrained/code/toolchain.h"

namespace pretrained::code {

// An open library; never closed, since other threads may run its code until the process ends.
struct Library {
  void* handle;
  std::filesystem::path path;  // of the cache entry
  // Throws CompileError where the library has no such symbol.
  PRETRAINED_API void* symbol(const char* name) const;
};

// Compiles `stub` (C++ text that includes what it needs from `sources` and defines the function
// `entry`) and every .cc and .cpp of `sources` into one shared library that exports `entry` alone,
// or takes it from the cache. The key is the content: sources, stub, API level, fingerprint,
// compiler and flags. Of many threads and processes that ask at once, one compiles and the others
// wait. A crash leaves no bad entry.
//
// Verified bytes are the compiled bytes are the loaded bytes: the compiler runs in a sandbox
// (sandbox.h) on `sources` as they are in memory; the library is audited (elf.h) before anything of
// it runs; an entry of the cache counts only under its seal (cache.h); and a sealed copy of the
// very bytes that were checked is opened (open.h). Throws CompileError with the compiler's output,
// FormatError for code or libraries that break the rules.
PRETRAINED_API const Library& load(const Sources& sources, const std::string& stub,
                                   const std::string& entry, const Toolchain& toolchain);

// The same without opening it: sealed memory that holds the verified bytes. IoError where the
// kernel lets none be executed.
PRETRAINED_API FileDescriptor build(const Sources& sources, const std::string& stub,
                                    const std::string& entry, const Toolchain& toolchain);

}  // namespace pretrained::code
