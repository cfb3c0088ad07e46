#pragma once
// The subcommands of `pretrained`. Each adds itself to the parser with its own --help; none has
// logic that the library should have. Errors are exceptions; main() turns them into one line on
// stderr and an exit code.

#include <string>

#include "pretrained/base/export.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace pretrained::cli {

struct Common {
  bool json = false, quiet = false;
};
void add_common(CLI::App& command, Common& common);
// --offline, for the verbs that read: as HF_HUB_OFFLINE=1.
void add_offline(CLI::App& command);

// torch_verbs.cpp
void add_predict(CLI::App& app);
void add_inspect(CLI::App& app);
void add_new(CLI::App& app);

void add_trust(CLI::App& app);   // trust.cpp
void add_lock(CLI::App& app);    // verify.cpp
void add_verify(CLI::App& app);  // verify.cpp

void add_completion(CLI::App& app);

// What is wrong with the words of the command line, and what was perhaps meant.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv);

}  // namespace pretrained::cli
