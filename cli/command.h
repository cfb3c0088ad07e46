#pragma once
// The subcommands of `pretrained`. Each adds itself to the parser with its own --help; none has
// logic that the library should have. Errors are exceptions; main() turns them into one line on
// stderr and an exit code.

#include <cstdint>
#include <string>
#include <vector>

#include "pretrained/base/json.h"
#include "pretrained/model/options.h"

namespace CLI {
class App;
}

namespace pretrained::cli {

struct Common {
  bool json = false, quiet = false;
};

void add_predict(CLI::App& app);
void add_inspect(CLI::App& app);
void add_new(CLI::App& app);
void add_completion(CLI::App& app);

void add_common(CLI::App& command, Common& common);
// --trust-remote-code, --code, --subfolder, --variant, --dtype, --device
void add_model_options(CLI::App& command, FromPretrained& options, std::string& device);

// One line on stderr that no file's name or key can break out of.
void print_line(const std::string& line);

// Of those that differ from `word` in at most two letters the nearest, else "".
std::string near_match(const std::string& word, const std::vector<std::string>& known);

// One line on stderr while it moves; nothing where stderr is no terminal, with --quiet or
// HF_HUB_DISABLE_PROGRESS_BARS.
class ProgressBar {
 public:
  ProgressBar(std::string title, bool quiet);
  ~ProgressBar() { clear(); }
  void update(uint64_t done, uint64_t total);
  // Before anything else is printed: stdout may be the same terminal.
  void clear();

 private:
  std::string title_;
  bool shown_, visible_ = false;
  int64_t started_ = 0, drawn_ = 0;
};

}  // namespace pretrained::cli
