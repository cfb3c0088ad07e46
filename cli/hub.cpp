#include "hub.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <mutex>
#include <string_view>

#include "pretrained/base/error.h"
#include "progress.h"
#include "review.h"

namespace pretrained::cli {
namespace {

constexpr char kInterrupted[] = "interrupted; run the same command to go on";
constexpr unsigned kGrace = 2;  // seconds

class Interrupted : public Error {
 public:
  Interrupted() : Error(kInterrupted) {}
  int exit_code() const override { return 130; }
};

volatile std::sig_atomic_t interrupted = 0;

// Where nothing moves nobody looks: a hub that does not answer, a lock that another process holds.
void give_up(int) {
  for (std::string_view text : {"pretrained: ", kInterrupted, "\n"})
    if (write(2, text.data(), text.size()) < 0) break;
  _exit(130);
}

// While it lives the first SIGINT is noted and has a moment to be heeded; the second does what it
// always does.
class InterruptGuard {
 public:
  InterruptGuard() {
    interrupted = 0;
    struct sigaction action{};
    action.sa_handler = [](int) {
      interrupted = 1;
      alarm(kGrace);
    };
    action.sa_flags = int(SA_RESETHAND);
    sigaction(SIGINT, nullptr, &before_);
    if (before_.sa_handler == SIG_IGN) return;
    std::signal(SIGALRM, give_up);
    sigaction(SIGINT, &action, nullptr);
  }
  ~InterruptGuard() {
    sigaction(SIGINT, &before_, nullptr);
    alarm(0);
    std::signal(SIGALRM, SIG_DFL);
  }
  InterruptGuard(const InterruptGuard&) = delete;
  void check() const {
    if (interrupted) throw Interrupted();
  }

 private:
  struct sigaction before_{};
};

// Transfers tell what they do from several threads, and so does the connection beneath them.
std::mutex display_mutex;
TransferProgress* display = nullptr;

void say(const std::string& line) {
  std::lock_guard lock(display_mutex);
  if (display)
    display->update({.kind = hub::TransferEvent::Kind::notice, .text = line});
  else
    print_line(line);
}

class DisplayGuard {
 public:
  explicit DisplayGuard(TransferProgress& progress) { set(&progress); }
  ~DisplayGuard() { set(nullptr); }
  DisplayGuard(const DisplayGuard&) = delete;

 private:
  static void set(TransferProgress* progress) {
    std::lock_guard lock(display_mutex);
    display = progress;
  }
};

}  // namespace

hub::HubClient connect(const Common& common) {
  return hub::HubClient({.notice = common.quiet ? decltype(hub::ClientOptions::notice)() : say});
}

CLI::App* add_group(CLI::App& app, const std::string& name, const std::string& description) {
  auto* group = app.add_subcommand(name, description);
  group->require_subcommand(1);
  return group;
}

void add_repo_type(CLI::App& command, std::string& type) {
  command.add_option("--repo-type", type, "model, dataset or space")
      ->type_name("TYPE")
      ->capture_default_str();
}

void add_patterns(CLI::App& command, const std::string& option, std::vector<std::string>& patterns,
                  const std::string& description) {
  command.add_option(option, patterns, description)->type_name("PATTERN")->allow_extra_args(false);
}

void add_yes(CLI::App& command, bool& yes) { command.add_flag("-y,--yes", yes, "do not ask"); }

hub::Repo own_repo(const hub::HubClient& client, const std::string& id, const std::string& type) {
  hub::Repo repo{id, hub::parse_repo_type(type)};
  repo.id = client.full_repo_id(id);
  return repo;
}

std::string own_name(const std::string& name, const std::string& type) {
  size_t at = name.find('@');
  try {
    hub::HubClient client;
    hub::Repo repo{client.full_repo_id(name.substr(0, at)), hub::parse_repo_type(type)};
    if (name.find('/') != name.npos || client.list_refs(repo).branches.empty()) return "";
    return "; did you mean '" + repo.id + (at == name.npos ? "" : name.substr(at)) + "'?";
  } catch (const Error&) {
    return "";
  }
}

Target parse_target(const std::string& text, const std::string& revision, const std::string& type) {
  auto reference = hub::parse_repo_reference(text);
  if (!reference)
    throw ArgumentError("'" + printable(text) +
                        "' names no repository: expected ORG/NAME or ORG/NAME@REVISION" +
                        own_name(text, type));
  if (!reference->revision.empty() && !revision.empty() && reference->revision != revision)
    throw ArgumentError("@" + reference->revision + " and --revision " + revision +
                        " contradict each other");
  std::string wanted = revision.empty() ? reference->revision : revision;
  return {{reference->id, hub::parse_repo_type(type)}, wanted.empty() ? "main" : wanted};
}

void confirm(const std::string& what, bool yes) {
  if (yes) return;
  if (!can_ask()) throw ArgumentError("this would " + what + ": give --yes if that is meant");
  if (!ask("This will " + what + ". Go on?")) throw Error("nothing was changed");
}

void print_json(const Json& json) { std::cout << json.dump(0) << std::endl; }

void run_transfer(const std::string& title, const Common& common,
                  const std::function<void(const hub::OnTransfer&)>& transfer) {
  InterruptGuard guard;
  TransferProgress progress(title, common.quiet);
  DisplayGuard shown(progress);
  transfer([&](const hub::TransferEvent& event) {
    guard.check();
    std::lock_guard lock(display_mutex);
    progress.update(event);
  });
}

}  // namespace pretrained::cli
