#pragma once
// Runs another program: arguments as a list (no shell), an empty standard input, output collected.
// It ends when the calling thread ends, killed or not, and its processor time is bounded by the
// timeout.

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained {

struct ProcessResult {
  int exit_code = 0;       // 128 + signal where one ended it
  bool timed_out = false;  // the whole process group was killed
  std::string output;      // standard output and error together, at most 4 MiB
};

// Finds argv[0] in PATH. Throws NotFoundError when there is no such program, IoError when it cannot
// be started. `directory` empty: the current one.
PRETRAINED_API ProcessResult
run_process(const std::vector<std::string>& argv, const std::filesystem::path& directory = {},
            std::chrono::milliseconds timeout = std::chrono::minutes(10));

// The program's full path, or empty.
PRETRAINED_API std::filesystem::path find_program(const std::string& name);

}  // namespace pretrained
