#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>

#include "pretrained/base/error.h"
#include "pretrained/base/text.h"
#include "pretrained/base/version.h"
#include "server/commands/commands.h"

// The command `pretrained-hub`: a hub for models, datasets, spaces and kernels on one binary and one folder.

using namespace pretrained;
using namespace pretrained::server;

namespace {

int fail(const std::string& message, int code) {
  std::cerr << "pretrained-hub: " << message << std::endl;
  return code;
}

// The verb that was reached: "pretrained-hub user create".
const CLI::App* reached(const CLI::App& app, std::string& name) {
  const CLI::App* deepest = &app;
  name = app.get_name();
  while (!deepest->get_subcommands().empty()) {
    deepest = deepest->get_subcommands().front();
    name += " " + deepest->get_name();
  }
  return deepest;
}

std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string name;
  const CLI::App* command = reached(app, name);
  auto verbs = command->get_subcommands([](const CLI::App*) { return true; });
  if (verbs.empty()) {
    std::string help = " (see " + name + " --help)";
    std::vector<std::string> options;
    for (const auto* option : command->get_options())
      for (auto& word : option->get_lnames()) options.push_back("--" + word);
    for (std::string word : command->remaining())
      if (word = word.substr(0, word.find('=')); word.starts_with("--"))
        return "no option '" + printable(word) + "'" + suggestion(word, options) + help;
    return error.what() + help;
  }
  std::string message = "a verb is missing", list;
  for (const auto* verb : verbs) list += (list.empty() ? "" : ", ") + verb->get_name();
  if (auto extras = command->remaining(); !extras.empty())
    message = "'" + printable(extras[0]) + "' is no verb";
  return message + "; " + name + " has " + list;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("A hub that the official clients use unchanged, on one binary and one folder.",
               "pretrained-hub");
  app.set_version_flag("--version", std::string("pretrained-hub ") + kVersion);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  pretrained-hub serve --data /srv/hub --listen 127.0.0.1:8080\n"
      "  HF_ENDPOINT=http://127.0.0.1:8080 HF_TOKEN=$(cat /srv/hub/admin-token) hf auth whoami\n"
      "  pretrained-hub user create alice --data /srv/hub\n"
      "  pretrained-hub backup /backups/today --data /srv/hub\n"
      "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not permitted, 5 bad data, 6 network");
  add_serve(app);
  add_user(app);
  add_org(app);
  add_token(app);
  add_audit(app);
  add_gc(app);
  add_fsck(app);
  add_backup(app);
  add_restore(app);
  add_migrate(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return fail(usage_error(app, error), 2);
  } catch (const Error& error) {
    return fail(error.what(), error.exit_code());
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
}
