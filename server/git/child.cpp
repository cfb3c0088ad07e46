#include "server/git/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/process.h"
#include "server/git/turns.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxErrors = 64 << 10;
constexpr rlim_t kMaxData = rlim_t{2} << 30;  // nothing honest comes near it

// A heavy child needs about 200 MiB and 200 bytes for each object.
constexpr const char* kConfiguration[] = {"safe.directory=*",
                                          "gc.auto=0",
                                          "pack.threads=1",
                                          "pack.windowMemory=64m",
                                          "pack.deltaCacheSize=32m",
                                          "core.deltaBaseCacheLimit=32m",
                                          "core.bigFileThreshold=16m",
                                          "core.packedGitWindowSize=16m",
                                          "core.packedGitLimit=256m"};

[[noreturn]] void throw_start(int error) {
  throw IoError(std::string("git: cannot be started: ") + std::strerror(error));
}

std::pair<FileDescriptor, FileDescriptor> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw_start(errno);
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

// Standard input is a socket, so that writing to a dead child is an error and no signal.
std::pair<FileDescriptor, FileDescriptor> make_socket() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw_start(errno);
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

std::vector<std::string> clean_environment(const GitCall& call) {
  const char* path = std::getenv("PATH");
  std::vector<std::string> list = {std::string("PATH=") + (path ? path : "/usr/bin:/bin"),
                                   "LC_ALL=C",
                                   "GIT_DIR=.",
                                   "GIT_CONFIG_NOSYSTEM=1",
                                   "GIT_CONFIG_GLOBAL=/dev/null",
                                   "GIT_ATTR_NOSYSTEM=1",
                                   "GIT_TERMINAL_PROMPT=0",
                                   "GIT_OPTIONAL_LOCKS=0",
                                   "GIT_NO_REPLACE_OBJECTS=1",
                                   "GIT_AUTO_GC=0"};
  for (auto& [name, value] : call.environment) list.push_back(name + "=" + value);
  return list;
}

std::vector<char*> pointers(const std::vector<std::string>& list) {
  std::vector<char*> result;
  for (auto& text : list) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

class Child {
 public:
  explicit Child(const GitCall& call) {
    auto [child_in, in] = make_socket();
    auto [out, child_out] = make_pipe();
    auto [err, child_err] = make_pipe();
    static const fs::path program = find_program("git");
    if (program.empty()) throw NotFoundError("git: no such program; install git");
    std::vector<std::string> arguments = {"git"};
    for (const char* setting : kConfiguration) arguments.insert(arguments.end(), {"-c", setting});
    arguments.insert(arguments.end(), call.arguments.begin(), call.arguments.end());
    std::vector<std::string> environment = clean_environment(call);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, child_in.get(), 0);
    posix_spawn_file_actions_adddup2(&actions, child_out.get(), 1);
    posix_spawn_file_actions_adddup2(&actions, child_err.get(), 2);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);  // not all libraries set CLOEXEC
    posix_spawn_file_actions_addchdir_np(&actions, call.directory.c_str());
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int error = posix_spawn(&pid_, program.c_str(), &actions, &attributes,
                            pointers(arguments).data(), pointers(environment).data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error) throw_start(error);
    rlimit seconds{rlim_t(call.processor.count()), rlim_t(call.processor.count())};
    prlimit(pid_, RLIMIT_CPU, &seconds, nullptr);
    rlimit data{kMaxData, kMaxData};
    prlimit(pid_, RLIMIT_DATA, &data, nullptr);
    input = std::move(in);
    output = std::move(out);
    errors = std::move(err);
  }
  Child(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) end();
  }

  // Waits at most `patience` for the child to exit by itself. False: it had to be killed.
  bool wait(std::chrono::milliseconds patience) {
    FileDescriptor handle(int(syscall(SYS_pidfd_open, pid_, 0)));
    pollfd ended{handle.get(), POLLIN, 0};
    int ready;
    do {
      ready = poll(&ended, 1, int(patience.count()));
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
  }
  // Kills what is left of the group and gives the exit code.
  int end() {
    kill(-pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  FileDescriptor input, output, errors;

 private:
  pid_t pid_ = -1;
};

// One read; true at the end of the stream.
template <class F>
bool drain(FileDescriptor& from, char* buffer, size_t size, F&& take) {
  ssize_t got = read(from.get(), buffer, size);
  if (got < 0 && errno == EINTR) return false;
  if (got > 0) take(std::string_view(buffer, size_t(got)));
  return got <= 0;
}

// Moves bytes until the child has closed its outputs. False: it was silent for too long.
bool pump(Child& child, const GitCall& call, std::string& errors) {
  constexpr size_t kBuffer = 128 << 10;
  auto memory = std::make_unique<char[]>(2 * kBuffer);
  char *outgoing = memory.get(), *incoming = memory.get() + kBuffer;
  size_t begin = 0, end = 0;
  if (!call.input) child.input = FileDescriptor();
  while (child.output.get() >= 0 || child.errors.get() >= 0) {
    pollfd fds[3] = {{child.output.get(), POLLIN, 0},
                     {child.errors.get(), POLLIN, 0},
                     {child.input.get(), POLLOUT, 0}};
    int ready = poll(fds, 3, int(std::chrono::milliseconds(call.silence).count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    if (fds[0].revents && drain(child.output, incoming, kBuffer, [&](std::string_view bytes) {
          if (call.output) call.output(bytes);
        }))
      child.output = FileDescriptor();
    if (fds[1].revents && drain(child.errors, incoming, kBuffer, [&](std::string_view bytes) {
          errors.append(bytes.substr(0, kMaxErrors - std::min(kMaxErrors, errors.size())));
        }))
      child.errors = FileDescriptor();
    if (!fds[2].revents || child.input.get() < 0) continue;
    if (fds[2].revents & (POLLERR | POLLHUP)) {
      child.input = FileDescriptor();
      continue;
    }
    if (begin == end) {
      begin = 0;
      end = call.input(outgoing, kBuffer);
    }
    ssize_t put = end == 0 ? 0
                           : send(child.input.get(), outgoing + begin, end - begin,
                                  MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (put <= 0)
      child.input = FileDescriptor();
    else
      begin += size_t(put);
  }
  return true;
}

}  // namespace

GitResult run_git(const GitCall& call) {
  std::optional<Turn> turn;
  if (call.heavy) turn.emplace(Turns::of_process());
  Child child(call);
  GitResult result;
  result.timed_out = !pump(child, call, result.errors) || !child.wait(call.silence);
  child.input = FileDescriptor();
  result.exit_code = child.end();
  return result;
}

std::string git_output(GitCall call, uint64_t limit) {
  std::string answer;
  call.output = [&](std::string_view bytes) {
    if (answer.size() + bytes.size() > limit)
      throw Error("git " + call.arguments.at(0) + ": answered more than " + std::to_string(limit) +
                  " bytes");
    answer.append(bytes);
  };
  GitResult result = run_git(call);
  if (result.timed_out) throw Error("git " + call.arguments.at(0) + ": took too long");
  if (result.exit_code != 0)
    throw Error("git " + call.arguments.at(0) + ": exit code " + std::to_string(result.exit_code) +
                ": " + printable(result.errors, 500));
  return answer;
}

std::function<size_t(char*, size_t)> read_from(std::string text) {
  return [text = std::move(text), position = size_t{0}](char* data, size_t size) mutable {
    size_t count = text.copy(data, size, position);
    position += count;
    return count;
  };
}

std::vector<std::pair<std::string, std::string>> quarantine(const fs::path& folder,
                                                            const fs::path& cache) {
  return {{"GIT_OBJECT_DIRECTORY", (folder / "objects").string()},
          {"GIT_ALTERNATE_OBJECT_DIRECTORIES", (cache / "objects").string()}};
}

}  // namespace pretrained::server
