#pragma once
// Runs another program: arguments as a list (no shell), an empty standard input, output collected.
// It ends when the calling thread ends, killed or not, and its processor time is bounded by the
// timeout.

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained {

struct ProcessResult {
  int exit_code = 0;       // 128 + signal where one ended it
  bool timed_out = false;  // the whole process group was killed
  std::string output;      // standard output and error together, at most 4 MiB
};

// What the program may not have of this one. It never has open files beyond its standard streams.
struct Confinement {
  std::optional<std::vector<std::string>> environment =
      {};  // "NAME=value"; nothing: this program's
  // Called in the child as its last act before exec, on the parent's memory: system calls only.
  // Gives 0 or an errno, which makes the start fail.
  int (*enter)(const void* context) = nullptr;
  const void* context = nullptr;
};

// Finds argv[0] in PATH. Throws NotFoundError when there is no such program, IoError when it cannot
// be started. `directory` empty: the current one.
PRETRAINED_API ProcessResult
run_process(const std::vector<std::string>& argv, const std::filesystem::path& directory = {},
            std::chrono::milliseconds timeout = std::chrono::minutes(10),
            const Confinement& confinement = {});

// The program's full path, or empty.
PRETRAINED_API std::filesystem::path find_program(const std::string& name);

// The shared library or program that `symbol` is part of, its links followed.
PRETRAINED_API std::filesystem::path library_of(const void* symbol);

}  // namespace pretrained
