#pragma once
// Where compilers and linkers run. They read sources of strangers, so they get: no network; their
// toolchain, read-only; one folder to write in; no other file, no variable of this process, no
// other process; bounded time, memory, files and output. What they start ends with them.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pretrained/base/process.h"
#include "pretrained/code/toolchain.h"

namespace pretrained::code {

// The guard that `toolchain.sandbox` asks for, where it works here: `automatic` takes bubblewrap,
// else Landlock with seccomp. Where there is none: CompileError naming what is missing, or, with
// PRETRAINED_UNSAFE_COMPILE=1 in the environment, Sandbox::none and a notice.
PRETRAINED_API Sandbox choose_sandbox(const Toolchain& toolchain);

struct Job {
  std::vector<std::string> argv;                // a full path first
  std::filesystem::path folder;                 // the one folder that can be written
  std::filesystem::path directory;              // inside it: where the program runs
  std::vector<std::filesystem::path> readable;  // files and folders beyond the system's toolchain
  std::chrono::seconds time_limit{600};
  uint64_t memory_limit = uint64_t(6) << 30;
};
PRETRAINED_API ProcessResult run_sandboxed(Sandbox sandbox, const Job& job);

}  // namespace pretrained::code
