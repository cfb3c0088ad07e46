#include <CLI/CLI.hpp>
#include <algorithm>

#include "command.h"
#include "pretrained/base/text.h"

namespace pretrained::cli {
namespace {

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (auto* option : command.get_options())
    for (auto& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::vector<std::string> verb_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (auto* verb : command.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(verb->get_name());
  return names;
}

// `login` where `auth login` is meant.
std::string full_name(const CLI::App& group, const std::string& word) {
  for (auto* verb : group.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->check_name(word)) return verb->get_name();
    if (auto rest = full_name(*verb, word); !rest.empty()) return verb->get_name() + " " + rest;
  }
  return "";
}

std::string verb_suggestion(const CLI::App& command, const std::string& word) {
  auto inner = full_name(command, word);
  return inner.empty() ? suggestion(word, verb_names(command)) : "; did you mean '" + inner + "'?";
}

}  // namespace

// CLI11's own words, or better ones where a word is misspelt.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error, int argc,
                          char** argv) {
  const CLI::App* command = &app;  // the deepest that was reached
  std::string name = app.get_name();
  int next = 1;
  for (; !command->get_subcommands().empty(); ++next) {
    command = command->get_subcommands().front();
    name += " " + command->get_name();
  }
  std::vector<std::string> options = option_names(*command);
  std::string word = next < argc ? argv[next] : "";
  if (!verb_names(*command).empty() && !word.empty() && word[0] != '-')
    return "no subcommand '" + word + "'" + verb_suggestion(*command, word) + " (" + name +
           " --help lists them)";
  for (int i = next; i < argc && std::string(argv[i]) != "--"; ++i) {
    word = argv[i];
    word = word.substr(0, word.find('='));
    if (word.starts_with("--") && std::find(options.begin(), options.end(), word) == options.end())
      return "no option '" + word + "'" + suggestion(word, options) + " (" + name +
             " --help shows what there is)";
  }
  return std::string(error.what()) + " (" + name + " --help shows what there is)";
}

}  // namespace pretrained::cli
