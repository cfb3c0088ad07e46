#pragma once
// With what shared code is compiled.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::code {

// What confines compilers (sandbox.h).
enum class Sandbox { automatic, bubblewrap, landlock, none };

struct Toolchain {
  std::vector<std::string> include_dirs;  // our headers and LibTorch's, by -isystem
  std::vector<std::string> libraries;     // shared libraries to link, full paths
  std::string pch_header;                 // includes to precompile once, with clang; empty: none
  std::string fingerprint;                // our version and the LibTorch build: part of every key
  int api_level = 1;
  std::filesystem::path cache_dir;
  std::filesystem::path secret_file;  // what seals the cache (cache.h); empty: inside it
  Sandbox sandbox = Sandbox::automatic;
  std::chrono::seconds time_limit{600};            // of one run of the compiler
  uint64_t memory_limit = uint64_t(6) << 30;       // bytes of address space
  std::function<void(const std::string&)> notice;  // one line before long work; may be empty
};

// $PRETRAINED_CODE_CACHE, else $XDG_CACHE_HOME/pretrained/code, else ~/.cache/pretrained/code. Made
// with mode 0700. It must belong to this user and not be writable by others, since what lies there
// is run: else IoError.
PRETRAINED_API std::filesystem::path default_cache_dir();

// $XDG_STATE_HOME/pretrained/code-secret, else ~/.local/state/pretrained/code-secret; its folder is
// made with mode 0700. Empty where there is no such place.
PRETRAINED_API std::filesystem::path default_secret_file();

// $PRETRAINED_CXX, else the first of clang++-19, clang++, g++ in PATH. CompileError naming the
// package where there is none.
PRETRAINED_API std::filesystem::path find_compiler();

}  // namespace pretrained::code
