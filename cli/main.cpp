#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "command.h"
#include "hub.h"
#include "pretrained/base/error.h"
#include "pretrained/base/version.h"
#include "terminal.h"

namespace pretrained::cli {
namespace {

// Every message of a failure passes here.
int fail(const std::string& message, int code) {
  print_line("pretrained: " + message);
  return code;
}

int fail(const CompileError& error) {
  std::istringstream log(error.log);
  for (std::string line; std::getline(log, line);) print_line(line);
  return fail(error.what(), error.exit_code());
}

int fail(const UntrustedCode& error) {
  std::istringstream diff(error.diff);
  for (std::string line; std::getline(diff, line);) print_line(line);
  return fail(error.what(), error.exit_code());
}

}  // namespace

void add_common(CLI::App& command, Common& common) {
  command.add_flag("--json", common.json, "print JSON, one document per line");
  command.add_flag("-q,--quiet", common.quiet, "no progress and no notices");
}

void add_offline(CLI::App& command) {
  command.add_flag_callback(
      "--offline", [] { setenv("HF_HUB_OFFLINE", "1", 1); },
      "only what the cache holds; no connection");
}

int run(int argc, char** argv) {
  CLI::App app("Custom models in C++, shared with their code.", "pretrained");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n  pretrained new my-model\n"
      "  pretrained predict my-model my-model/test.png --trust-remote-code\n"
      "  HF_ENDPOINT=http://127.0.0.1:8080 pretrained auth login    # without it: huggingface.co\n"
      "  pretrained upload org/my-model ./my-model\n"
      "  pretrained predict org/my-model@<commit> photo.jpg --trust-remote-code\n"
      "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not permitted or untrusted, 5 bad data, "
      "6 network, 130 interrupted.");
  add_predict(app);
  add_inspect(app);
  add_new(app);
  add_trust(app);
  add_lock(app);
  add_verify(app);
  add_auth(app);
  add_repo(app);
  add_upload(app);
  add_download(app);
  add_commits(app);
  add_cache(app);
  add_completion(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return fail(usage_message(app, error, argc, argv), 2);
  } catch (const CompileError& error) {
    return fail(error);
  } catch (const UntrustedCode& error) {
    return fail(error);
  } catch (const Error& error) {
    return fail(error.what(), error.exit_code());
  } catch (const std::bad_alloc&) {
    return fail("out of memory", 1);
  } catch (const std::exception& error) {
    std::string text = error.what();
    return fail(text.substr(0, text.find('\n')), 1);  // LibTorch's errors carry a stack trace
  }
}

}  // namespace pretrained::cli

int main(int argc, char** argv) {
  int code = pretrained::cli::run(argc, argv);
  // Loaded model code is never unmapped and LibTorch's threads need no farewell.
  std::cout.flush();
  std::fflush(nullptr);
  std::_Exit(std::cout ? code : 1);
}
