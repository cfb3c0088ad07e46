#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <sstream>

#include "command.h"
#include "pretrained/base/error.h"
#include "pretrained/base/version.h"

namespace pretrained::cli {
namespace {

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

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

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t k = 1; k <= b.size(); ++k)
      diagonal = std::exchange(
          row[k], std::min({row[k] + 1, row[k - 1] + 1, diagonal + (a[i - 1] != b[k - 1])}));
  }
  return row[b.size()];
}

std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  std::string match = near_match(word, known);
  return match.empty() ? "" : "; did you mean '" + match + "'?";
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (auto* option : command.get_options())
    for (auto& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// CLI11's own words, or better ones where a word is misspelt.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error, int argc,
                          char** argv) {
  auto used = app.get_subcommands();
  std::string first = argc > 1 ? argv[1] : "";
  if (used.empty() && !first.empty() && first[0] != '-') {
    std::vector<std::string> names;
    for (auto* command : app.get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(command->get_name());
    return "no subcommand '" + first + "'" + suggestion(first, names) +
           " (pretrained --help lists them)";
  }
  std::string help =
      used.empty() ? "pretrained --help" : "pretrained " + used[0]->get_name() + " --help";
  std::vector<std::string> known = option_names(used.empty() ? app : *used[0]);
  for (int i = 1; i < argc && std::string(argv[i]) != "--"; ++i) {
    std::string word = argv[i];
    word = word.substr(0, word.find('='));
    if (word.starts_with("--") && std::find(known.begin(), known.end(), word) == known.end())
      return "no option '" + word + "'" + suggestion(word, known) + " (" + help +
             " shows what there is)";
  }
  return std::string(error.what()) + " (" + help + " shows what there is)";
}

}  // namespace

void print_line(const std::string& line) { std::cerr << printable(line, 8000) << std::endl; }

std::string near_match(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t nearest = 3;
  for (auto& candidate : known)
    if (size_t distance = edit_distance(word, candidate);
        distance < nearest && distance < candidate.size())
      nearest = distance, best = candidate;
  return best;
}

ProgressBar::ProgressBar(std::string title, bool quiet)
    : title_(std::move(title)),
      shown_(!quiet && isatty(2) && !std::getenv("HF_HUB_DISABLE_PROGRESS_BARS")) {}

void ProgressBar::clear() {
  if (visible_) std::fputs("\r\033[K", stderr);
  visible_ = false;
}

void ProgressBar::update(uint64_t done, uint64_t total) {
  int64_t now = now_ms();
  if (!started_) started_ = now;
  if (!shown_ || total == 0 || (now - drawn_ < 100 && done < total)) return;
  drawn_ = now;
  visible_ = true;
  constexpr size_t kWidth = 30;
  size_t filled = std::min(kWidth, size_t(kWidth * done / total));
  std::string bar = std::string(filled, '#') + std::string(kWidth - filled, '.');
  double seconds = double(now - started_) / 1000,
         left = done ? seconds * double(total - done) / double(done) : 0;
  std::fprintf(stderr, "\r%s [%s] %3d%%  %.0fs, %.0fs left\033[K", title_.c_str(), bar.c_str(),
               int(100 * done / total), seconds, left);
}

void add_common(CLI::App& command, Common& common) {
  command.add_flag("--json", common.json, "print JSON, one document per line");
  command.add_flag("-q,--quiet", common.quiet, "no progress and no notices");
}

void add_model_options(CLI::App& command, FromPretrained& options, std::string& device) {
  command.add_flag("--trust-remote-code", options.trust_remote_code,
                   "compile and run the C++ code in the model's folder");
  command.add_option("--code", options.code, "use the C++ code of this folder instead")
      ->type_name("DIR");
  command.add_option("--subfolder", options.subfolder, "folder inside MODEL")->type_name("DIR");
  command.add_option("--variant", options.variant, "weights file model.VARIANT.safetensors")
      ->type_name("NAME");
  command.add_option("--dtype", options.dtype, "auto, float32, bfloat16, float16, …")
      ->capture_default_str();
  command.add_option("--device", device, "cpu, cuda, cuda:1, …")->capture_default_str();
}

int run(int argc, char** argv) {
  CLI::App app("Custom models in C++, shared with their code.", "pretrained");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not permitted or untrusted, 5 bad data, "
      "6 network.");
  add_predict(app);
  add_inspect(app);
  add_new(app);
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
