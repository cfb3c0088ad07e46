#include <CLI/CLI.hpp>
#include <algorithm>
#include <numeric>

#include "command.h"

namespace pretrained::cli {
namespace {

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

// Of those that differ from `word` in at most two letters the nearest.
std::string near_match(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t nearest = 3;
  for (auto& candidate : known)
    if (size_t distance = edit_distance(word, candidate);
        distance < nearest && distance < candidate.size())
      nearest = distance, best = candidate;
  return best;
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

std::vector<std::string> verb_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (auto* verb : command.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(verb->get_name());
  return names;
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
  std::vector<std::string> verbs = verb_names(*command), options = option_names(*command);
  std::string word = next < argc ? argv[next] : "";
  if (!verbs.empty() && !word.empty() && word[0] != '-')
    return "no subcommand '" + word + "'" + suggestion(word, verbs) + " (" + name +
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
