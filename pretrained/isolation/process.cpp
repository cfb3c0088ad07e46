#include "pretrained/isolation/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "pretrained/base/process.h"
#include "pretrained/isolation/isolation.h"

extern char** environ;

namespace pretrained::isolation {
namespace fs = std::filesystem;
namespace {

fs::path worker_program() {
  fs::path library = library_of(reinterpret_cast<const void*>(&worker_program));
  fs::path root = library.parent_path();
  for (auto* place : {"../libexec/pretrained/pretrained-worker", "../bin/pretrained-worker",
                      "../../libexec/pretrained/pretrained-worker"})
    if (fs::exists(root / place)) return root / place;
  throw NotFoundError("pretrained-worker is not beside " + library.string() +
                      ": install the library as a whole");
}

// What the arithmetic depends on, and nothing that says who or where we are.
std::vector<std::string> worker_environment() {
  std::vector<std::string> kept = {"LC_ALL=C"};
  for (char** entry = environ; *entry; ++entry)
    for (auto* prefix :
         {"OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_", "ATEN_", "LD_LIBRARY_PATH="})
      if (std::string_view(*entry).starts_with(prefix)) kept.push_back(*entry);
  return kept;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> list;
  for (auto& word : words) list.push_back(word.data());
  list.push_back(nullptr);
  return list;
}

pid_t spawn(const fs::path& program, int socket) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  for (int stream : {0, 1, 2})
    posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", stream ? O_WRONLY : O_RDONLY,
                                     0);
  posix_spawn_file_actions_adddup2(&actions, socket, 3);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<std::string> words = {program, std::to_string(getpid())}, kept = worker_environment();
  pid_t child = -1;
  int error = posix_spawn(&child, program.c_str(), &actions, &attributes, pointers(words).data(),
                          pointers(kept).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error) throw IoError(program.string() + ": " + std::strerror(error));
  return child;
}

std::string describe_end(const siginfo_t& end) {
  if (end.si_code == CLD_EXITED) return "ended with exit code " + std::to_string(end.si_status);
  return std::string("was killed by a signal: ") + strsignal(end.si_status);
}

[[noreturn]] void throw_error_of_model(const std::string& text, int64_t code) {
  if (code == 2) throw ArgumentError(text);
  if (code == 5) throw ConfigError(text);
  throw Error(text);
}

}  // namespace

ModelProcess::ModelProcess(std::string name) : name_(std::move(name)) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw IoError(std::string("socketpair: ") + std::strerror(errno));
  channel_.emplace(FileDescriptor(ends[0]));
  FileDescriptor given(ends[1]);
  // Above those that the worker's own streams take.
  FileDescriptor theirs(fcntl(given.get(), F_DUPFD_CLOEXEC, 4));
  if (theirs.get() < 0) throw IoError(std::string("socketpair: ") + std::strerror(errno));
  fs::path program = worker_program();
  // The kernel ends the worker when the thread that started it ends: this one lives as long as the
  // worker does, and collects it.
  std::promise<pid_t> started;
  std::promise<siginfo_t> ended;
  ended_ = ended.get_future().share();
  auto pid = started.get_future();
  keeper_ =
      std::thread([&started, program, socket = theirs.get(), ended = std::move(ended)]() mutable {
        pid_t child = -1;
        try {
          child = spawn(program, socket);
          started.set_value(child);
        } catch (...) {
          started.set_exception(std::current_exception());
          return;
        }
        siginfo_t end{};
        while (waitid(P_PID, id_t(child), &end, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
        }
        ended.set_value(end);
      });
  try {
    pid_ = pid.get();
  } catch (...) {
    keeper_.join();
    throw;
  }
}

ModelProcess::~ModelProcess() {
  channel_.reset();
  kill(pid_, SIGKILL);
  keeper_.join();
  waitpid(pid_, nullptr, 0);
}

void ModelProcess::fail(const std::string& why) {
  failure_ = name_ + ": ";
  if (ended_.wait_for(std::chrono::milliseconds(200)) == std::future_status::ready)
    failure_ += "the model's process " + describe_end(ended_.get());
  else
    failure_ += why + "; the model's process was ended";
  channel_.reset();
  kill(pid_, SIGKILL);
  throw ModelProcessError(failure_);
}

Message ModelProcess::call(const Json& request, int file, std::chrono::milliseconds timeout) {
  if (!channel_) throw ModelProcessError(failure_);
  std::optional<Channel::Clock::time_point> deadline;
  if (timeout.count() > 0) deadline = Channel::Clock::now() + timeout;
  Message answer;
  try {
    channel_->send(request, file, deadline);
    answer = channel_->receive(deadline);
  } catch (const ChannelClosed&) {
    fail("the model's process is gone");
  } catch (const ChannelTimeout&) {
    fail("the model did not answer within " + std::to_string(timeout.count()) + " ms");
  } catch (const FormatError& error) {
    fail(std::string("the model's process broke the rules: ") + error.what());
  }
  if (auto* error = answer.body.find("error")) {
    auto* text = error->get_if<std::string>();
    auto* code = answer.body.find("code");
    auto* number = code ? code->get_if<int64_t>() : nullptr;
    throw_error_of_model(name_ + ": " + (text ? printable(*text, 2000) : "an error"),
                         number ? *number : 1);
  }
  return answer;
}

}  // namespace pretrained::isolation
