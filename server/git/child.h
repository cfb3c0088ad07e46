#pragma once
// Runs the real git as a child: an argument list (no shell), a clean environment (no configuration
// but ours), its own process group that is killed whole, bytes streamed in and out.

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pretrained::server {

struct GitCall {
  std::vector<std::string> arguments;  // behind "git"
  std::filesystem::path directory;     // a bare repository: the child's folder and GIT_DIR
  std::vector<std::pair<std::string, std::string>> environment = {};
  std::function<size_t(char*, size_t)> input = {};         // up to `size` bytes, 0 at the end
  std::function<void(std::string_view)> output = {};       // standard output, as it comes
  std::chrono::seconds silence = std::chrono::minutes(5);  // killed when it moves no byte so long
  bool heavy = false;  // takes a turn (turns.h): Busy where there is none
  std::chrono::seconds processor = std::chrono::minutes(60);  // processor time of each process
};

struct GitResult {
  int exit_code = 0;       // 128 + signal where one ended it
  bool timed_out = false;  // `silence` passed and the group was killed
  std::string errors;      // the first 64 KiB of standard error
};

// Throws what `input` and `output` throw (the child is killed first) and IoError where git cannot
// be started. A child that stops reading gets no more input; the rest of `input` is left unread.
GitResult run_git(const GitCall& call);

// For short answers: standard output. Throws Error with git's own words when it fails or answers
// more than `limit` bytes.
std::string git_output(GitCall call, uint64_t limit = 64 << 20);

// `input` from memory.
std::function<size_t(char*, size_t)> read_from(std::string text);

// The environment that reads `cache`/objects and writes to `folder`/objects.
std::vector<std::pair<std::string, std::string>> quarantine(const std::filesystem::path& folder,
                                                            const std::filesystem::path& cache);

}  // namespace pretrained::server
