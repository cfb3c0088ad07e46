#include "pretrained/base/process.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

extern char** environ;

namespace pretrained {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxOutput = 4 << 20;

struct Pipe {
  FileDescriptor reader, writer;

  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw IoError(std::string("pipe: ") + std::strerror(errno));
    reader = FileDescriptor(above_standard(ends[0]));
    writer = FileDescriptor(above_standard(ends[1]));
  }

 private:
  // A program started with its standard streams closed gets their numbers here, and dup2 would
  // then overwrite one end with another.
  static int above_standard(int fd) {
    if (fd > 2) return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    return moved;
  }
};

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

struct Start {
  const char* program;
  char* const* arguments;
  char* const* environment;
  const Confinement* confinement;
  const char* directory;  // nullptr: the current one
  int input, output;      // descriptors of pipes
  pid_t parent;
  rlim_t seconds;
  sigset_t mask;
};

// Between vfork and exec: system calls only, on the parent's memory. Gives an errno.
int become(const Start& start) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // who starts a compiler and is killed takes it along
  if (getppid() != start.parent) return ESRCH;
  setpgid(0, 0);  // so that a timeout ends its children too
  rlimit cpu{start.seconds, start.seconds}, core{0, 0};
  setrlimit(RLIMIT_CPU, &cpu);  // children of a killed child end by this
  setrlimit(RLIMIT_CORE, &core);
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action;
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN &&
        action.sa_handler != SIG_DFL) {
      action.sa_handler = SIG_DFL;
      sigaction(signal, &action, nullptr);
    }
  }
  sigprocmask(SIG_SETMASK, &start.mask, nullptr);
  if (dup2(start.input, 0) < 0 || dup2(start.output, 1) < 0 || dup2(start.output, 2) < 0)
    return errno;
  if (start.directory && chdir(start.directory) != 0) return errno;
  // What some library of this program opened without O_CLOEXEC.
  close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
  if (start.confinement->enter)
    if (int error = start.confinement->enter(start.confinement->context)) return error;
  execve(start.program, start.arguments, start.environment);
  return errno;
}

// vfork: a process with gigabytes of weights must not copy its page tables to start a compiler.
pid_t start_process(Start start, const std::string& name) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &start.mask);
  volatile int error = 0;
  start.parent = getpid();
  pid_t child = vfork();
  if (child == 0) {
    error = become(start);
    _exit(127);
  }
  if (child < 0) error = errno;
  pthread_sigmask(SIG_SETMASK, &start.mask, nullptr);
  if (!error) return child;
  if (child > 0) waitpid(child, nullptr, 0);
  throw IoError(name + ": " + std::strerror(error));
}

// The exit status; a child that goes on after closing its output is killed at the deadline.
int wait_for(pid_t child, std::chrono::steady_clock::time_point deadline, bool& timed_out) {
  int status = 0;
  for (auto pause = std::chrono::milliseconds(1);;
       pause = std::min(pause * 2, std::chrono::milliseconds(50))) {
    if (!timed_out && std::chrono::steady_clock::now() >= deadline) timed_out = true;
    if (timed_out) kill(-child, SIGKILL);
    pid_t ended = waitpid(child, &status, timed_out ? 0 : WNOHANG);
    if (ended == child) return status;
    if (ended < 0 && errno != EINTR) return status;
    if (ended == 0) std::this_thread::sleep_for(pause);
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
                          std::chrono::milliseconds timeout, const Confinement& confinement) {
  fs::path program = find_program(argv.at(0));
  if (program.empty()) throw NotFoundError(argv[0] + ": no such program");
  Pipe output, input;
  input.writer = FileDescriptor();  // the child reads the end at once
  auto pointers = [](const std::vector<std::string>& words) {
    std::vector<char*> out;
    for (auto& word : words) out.push_back(const_cast<char*>(word.c_str()));
    out.push_back(nullptr);
    return out;
  };
  std::vector<char*> arguments = pointers(argv), variables;
  if (confinement.environment) variables = pointers(*confinement.environment);
  auto seconds = std::chrono::ceil<std::chrono::seconds>(timeout).count();
  pid_t child = start_process({program.c_str(),
                               arguments.data(),
                               confinement.environment ? variables.data() : environ,
                               &confinement,
                               directory.empty() ? nullptr : directory.c_str(),
                               input.reader.get(),
                               output.writer.get(),
                               0,
                               rlim_t(seconds),
                               {}},
                              argv[0]);
  output.writer = FileDescriptor();

  ProcessResult result;
  auto deadline = std::chrono::steady_clock::now() + timeout;
  result.timed_out = !collect(output.reader.get(), deadline, result.output);
  int status = wait_for(child, deadline, result.timed_out);
  // The kill reaches the last process of a sandbox a moment later; then its output closes.
  std::string late;
  if (result.timed_out)
    collect(output.reader.get(), std::chrono::steady_clock::now() + std::chrono::seconds(2), late);
  result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

fs::path library_of(const void* symbol) {
  Dl_info info;
  if (dladdr(symbol, &info) == 0 || !info.dli_fname)
    throw Error("cannot find out where the library was loaded from");
  return fs::canonical(info.dli_fname);
}

}  // namespace pretrained
