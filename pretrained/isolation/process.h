#pragma once
// The process that a model lives in, as its host sees it.

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>

#include "pretrained/isolation/channel.h"

namespace pretrained::isolation {

class ModelProcess {
 public:
  // Starts `pretrained-worker`, which lies beside this library.
  explicit ModelProcess(std::string name);
  ~ModelProcess();  // kills it
  ModelProcess(const ModelProcess&) = delete;

  // A request and its answer. ModelProcessError where the process ends, breaks the rules or does
  // not answer in `timeout` (0: for ever); it is then killed, and every later call says so. Errors
  // of the model itself are thrown as such: ArgumentError, ConfigError, Error.
  Message call(const Json& request, int file, std::chrono::milliseconds timeout);
  const std::string& name() const { return name_; }

 private:
  [[noreturn]] void fail(const std::string& why);
  std::string name_, failure_;
  pid_t pid_ = -1;
  std::optional<Channel> channel_;
  std::shared_future<siginfo_t>
      ended_;  // how it ended; it stays a zombie, so that its id is its own
  std::thread keeper_;
};

}  // namespace pretrained::isolation
