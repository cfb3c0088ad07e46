#include "pretrained/base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

extern char** environ;

namespace pretrained {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxOutput = 4 << 20;

// Collects the child's output until it closes it or the time is over; true when in time.
bool collect(int fd, std::chrono::steady_clock::time_point deadline, std::string& output) {
  char buffer[65536];
  for (;;) {
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now())
            .count();
    if (left <= 0) return false;
    pollfd ready{fd, POLLIN, 0};
    if (poll(&ready, 1, int(std::min<int64_t>(left, 1 << 30))) <= 0) continue;
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return true;
    output.append(buffer, std::min(size_t(got), kMaxOutput - std::min(kMaxOutput, output.size())));
  }
}

}  // namespace

fs::path find_program(const std::string& name) {
  if (name.find('/') != name.npos)
    return access(name.c_str(), X_OK) == 0 ? fs::path(name) : fs::path();
  const char* variable = std::getenv("PATH");
  std::string path = variable ? variable : "/usr/bin:/bin";
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find(':', begin), path.size());
    fs::path candidate = fs::path(path.substr(begin, end - begin)) / name;
    std::error_code error;
    if (end > begin && access(candidate.c_str(), X_OK) == 0 &&
        fs::is_regular_file(candidate, error))
      return candidate;
    begin = end + 1;
  }
  return {};
}

ProcessResult run_process(const std::vector<std::string>& argv, const fs::path& directory,
                          std::chrono::milliseconds timeout) {
  fs::path program = find_program(argv.at(0));
  if (program.empty()) throw NotFoundError(argv[0] + ": no such program");
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) throw IoError(std::string("pipe: ") + std::strerror(errno));
  FileDescriptor reader(pipe_fds[0]), writer(pipe_fds[1]);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 2);
  if (!directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP);  // so that a timeout ends its children too
  std::vector<char*> arguments;
  for (auto& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  int error =
      posix_spawn(&child, program.c_str(), &actions, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error) throw IoError(argv[0] + ": " + std::strerror(error));
  writer = FileDescriptor();

  ProcessResult result;
  result.timed_out =
      !collect(reader.get(), std::chrono::steady_clock::now() + timeout, result.output);
  if (result.timed_out) kill(-child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

}  // namespace pretrained
