#pragma once
// Compiled once, loaded for good: sources → shared library, cached by content.

#include <filesystem>
#include <string>

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

// Compiles `stub` (C++ text that includes what it needs from `sources`) and every .cc and .cpp of
// `sources` into one shared library, or takes it from the cache. The key is the content: sources,
// stub, API level, fingerprint, compiler and flags, CPU. Of many threads and processes that ask at
// once, one compiles and the others wait. A crash leaves no bad entry. What is loaded is what was
// hashed: the bytes are checked against their digest, the note inside them is read, and a sealed
// copy of them is opened. Throws CompileError with the compiler's whole output.
PRETRAINED_API const Library& load(const Sources& sources, const std::string& stub,
                                   const Toolchain& toolchain);

}  // namespace pretrained::code
