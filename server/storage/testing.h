#pragma once
// For the tests of this and other rooms: a folder of their own and children that are killed.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>

namespace pretrained::server {

// An empty folder, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pretrained-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Runs `f` in a child process, which leaves nothing of ours open behind it: exit code 0 where `f`
// returns true.
inline pid_t start_child(const std::function<bool()>& f) {
  pid_t child = fork();
  if (child == 0) {
    bool ok = false;
    try {
      ok = f();
    } catch (const std::exception& error) {
      fprintf(stderr, "child: %s\n", error.what());
    }
    fflush(stderr);
    _exit(ok ? 0 : 1);
  }
  return child;
}

// The exit code; 128 + signal where one ended it.
inline int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace pretrained::server
