#include "pretrained/code/toolchain.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "pretrained/base/error.h"
#include "pretrained/base/process.h"

namespace pretrained::code {
namespace fs = std::filesystem;

namespace {

fs::path variable(const char* name) {
  const char* value = std::getenv(name);
  return fs::path(value ? value : "");
}

}  // namespace

fs::path default_cache_dir() {
  fs::path folder = variable("PRETRAINED_CODE_CACHE");
  if (folder.empty() && !variable("XDG_CACHE_HOME").empty())
    folder = variable("XDG_CACHE_HOME") / "pretrained/code";
  if (folder.empty() && !variable("HOME").empty())
    folder = variable("HOME") / ".cache/pretrained/code";
  if (folder.empty())
    throw IoError("no place for compiled code: set PRETRAINED_CODE_CACHE to a folder");
  folder = fs::absolute(folder);
  std::error_code error;
  if (!fs::exists(folder, error)) {
    fs::create_directories(folder, error);
    if (!error) chmod(folder.c_str(), 0700);
  }
  struct stat status;
  if (stat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode))
    throw IoError(
        folder.string() +
        ": cannot be made; set PRETRAINED_CODE_CACHE to a folder that can hold compiled code");
  if (status.st_uid != geteuid() || (status.st_mode & 022))
    throw IoError(folder.string() +
                  ": others can put code here that would be run: remove it, or set "
                  "PRETRAINED_CODE_CACHE to a folder of your own");
  return folder;
}

fs::path default_secret_file() {
  fs::path state = variable("XDG_STATE_HOME");
  if (state.empty() && !variable("HOME").empty()) state = variable("HOME") / ".local/state";
  if (!state.is_absolute()) return {};
  fs::path folder = state / "pretrained";
  std::error_code error;
  fs::create_directories(state, error);
  mkdir(folder.c_str(), 0700);
  struct stat status;
  if (stat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) ||
      status.st_uid != geteuid() || (status.st_mode & 022) || access(folder.c_str(), W_OK) != 0)
    return {};
  return folder / "code-secret";
}

fs::path find_compiler() {
  if (const char* chosen = std::getenv("PRETRAINED_CXX"); chosen && *chosen) {
    if (fs::path found = find_program(chosen); !found.empty()) return found;
    throw CompileError(std::string("PRETRAINED_CXX names '") + chosen + "', which is no program",
                       chosen, "");
  }
  for (auto* name : {"clang++-19", "clang++", "g++"})
    if (fs::path found = find_program(name); !found.empty()) return found;
  throw CompileError(
      "no C++ compiler found to compile the model's code: install clang-19 (Debian: apt-get "
      "install clang-19)",
      "", "");
}

}  // namespace pretrained::code
