#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>

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

int fail(const std::string& message, int code) {
  std::cerr << "pretrained: " << message << std::endl;
  return code;
}

}  // namespace

ProgressBar::ProgressBar(std::string title, bool quiet)
    : title_(std::move(title)),
      shown_(!quiet && isatty(2) && !std::getenv("HF_HUB_DISABLE_PROGRESS_BARS")) {}

ProgressBar::~ProgressBar() {
  if (shown_ && drawn_) std::fputs("\r\033[K", stderr);
}

void ProgressBar::update(uint64_t done, uint64_t total) {
  int64_t now = now_ms();
  if (!started_) started_ = now;
  if (!shown_ || total == 0 || (now - drawn_ < 100 && done < total)) return;
  drawn_ = now;
  constexpr size_t kWidth = 30;
  size_t filled = size_t(kWidth * done / total);
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

void add_completion(CLI::App& app) {
  auto* command = app.add_subcommand("completion", "print shell completion for bash");
  command->footer("Example:\n  source <(pretrained completion)");
  command->callback([&app] {
    std::string words;
    for (auto* sub : app.get_subcommands([](CLI::App*) { return true; }))
      words += sub->get_name() + " ";
    std::cout << "_pretrained() {\n  local cur=${COMP_WORDS[COMP_CWORD]}\n  if [ $COMP_CWORD = 1 "
                 "]; then\n"
              << "    COMPREPLY=($(compgen -W \"" << words
              << "\" -- \"$cur\"))\n  elif [[ $cur == -* ]]; then\n"
              << "    COMPREPLY=($(compgen -W \"$(pretrained ${COMP_WORDS[1]} --help | grep -o -- "
                 "'--[a-z-]*')\" -- \"$cur\"))\n"
              << "  else\n    COMPREPLY=($(compgen -f -- \"$cur\"))\n  fi\n}\ncomplete -o "
                 "filenames -F _pretrained pretrained\n";
  });
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
    return fail(std::string(error.what()) + " (pretrained --help shows what there is)", 2);
  } catch (const CompileError& error) {
    if (!error.log.empty()) std::cerr << error.log << "\n";
    return fail(error.what(), error.exit_code());
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
