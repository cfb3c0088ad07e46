#include <CLI/CLI.hpp>
#include <iostream>
#include <sstream>

#include "command.h"

// Completion scripts, written from the parser itself: a new option is completed without a line
// here.

namespace pretrained::cli {
namespace {

struct Option {
  std::string name, description;  // "--dtype"
  bool takes_value = false;
  std::string values;  // "auto float32"; empty: files
};

struct Command {
  std::string path, name, description;  // "/repo/branch/create"; the program's own is ""
  std::vector<Option> options;
  std::vector<Command> verbs;
};

std::string values_of(const std::string& option) {
  if (option == "--dtype") return "auto float32 bfloat16 float16 float64";
  if (option == "--device") return "cpu cuda";
  if (option == "--auto-class") return "AutoModel AutoModelForImageClassification";
  if (option == "--repo-type") return "model dataset space";
  if (option == "--gated") return "auto manual false";
  return "";
}

Command describe(const CLI::App& app, const std::string& path) {
  Command command{path, app.get_name(), app.get_description(), {}, {}};
  for (auto* option : app.get_options())
    for (auto& name : option->get_lnames())
      command.options.push_back({"--" + name, option->get_description(),
                                 option->get_items_expected_max() > 0, values_of("--" + name)});
  for (auto* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    command.verbs.push_back(describe(*verb, path + "/" + verb->get_name()));
  return command;
}

// The command and all below it.
void list(const Command& command, std::vector<const Command*>& all) {
  all.push_back(&command);
  for (auto& verb : command.verbs) list(verb, all);
}

template <class Items>
std::string names_of(const Items& items) {
  std::string names;
  for (auto& item : items) names += (names.empty() ? "" : " ") + item.name;
  return names;
}

// What stands where no option does, if it is no file.
std::string words_of(const Command& command) {
  return command.path == "/completion" ? "bash zsh fish" : names_of(command.verbs);
}

// 'text' for any of the three shells, without what zsh's _arguments would read as its own syntax.
std::string in_quotes(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '\'' ? std::string("’") : std::string(1, c);
  return "'" + out + "'";
}

std::string plain(std::string text) {
  for (char& c : text)
    if (c == '[' || c == ']' || c == ':') c = ' ';
  return text;
}

// The pattern for the words before the cursor that name a command.
std::string paths_of(const std::vector<const Command*>& all) {
  std::string out;
  for (auto* command : all)
    if (!command->path.empty()) out += (out.empty() ? "" : "|") + command->path;
  return out;
}

void print_bash(const std::vector<const Command*>& all) {
  std::ostringstream values, options, words;
  for (auto* command : all) {
    options << "      '" << command->path << "') words='" << names_of(command->options) << "' ;;\n";
    if (!words_of(*command).empty())
      words << "      '" << command->path << "') words='" << words_of(*command) << "' ;;\n";
    for (auto& option : command->options)
      if (!option.values.empty())
        values << "    " << command->path << "/" << option.name << ") words='" << option.values
               << "' ;;\n";
  }
  std::cout << R"(_pretrained() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= at= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case $at/${COMP_WORDS[i]} in
      )" << paths_of(all)
            << R"() at=$at/${COMP_WORDS[i]} ;;
    esac
  done
  case $at/$prev in
)" << values.str()
            << R"(  esac
  if [ -z "$words" ] && [[ $cur == -* ]]; then
    case $at in
)" << options.str()
            << R"(    esac
  elif [ -z "$words" ]; then
    case $at in
)" << words.str()
            << R"(    esac
  fi
  if [ -n "$words" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  fi
}
complete -F _pretrained pretrained
)";
}

void print_zsh_command(const Command& command) {
  std::cout << "    '" << command.path << "')\n";
  if (!command.verbs.empty()) {
    std::cout << "      if [[ $PREFIX == -* ]]; then\n        compadd -- "
              << names_of(command.options) << "\n      else\n        commands=(\n";
    for (auto& verb : command.verbs)
      std::cout << "          " << in_quotes(verb.name + ":" + plain(verb.description)) << "\n";
    std::cout << "        )\n        _describe command commands\n      fi ;;\n";
    return;
  }
  std::cout << "      _arguments";
  for (auto& option : command.options) {
    std::string text = option.name + "[" + plain(option.description) + "]";
    if (option.takes_value)
      text += ":value:" + (option.values.empty() ? "_files" : "(" + option.values + ")");
    std::cout << " \\\n        " << in_quotes(text);
  }
  std::string words = words_of(command);
  std::cout << " \\\n        "
            << in_quotes(words.empty() ? "*:file:_files" : "1:word:(" + words + ")") << " ;;\n";
}

void print_zsh(const std::vector<const Command*>& all) {
  std::cout << R"(#compdef pretrained
_pretrained() {
  local -a commands
  local at= i depth=1
  for ((i = 2; i < CURRENT; i++)); do
    case $at/$words[i] in
      )" << paths_of(all)
            << R"() at=$at/$words[i]; depth=$i ;;
    esac
  done
  shift $((depth - 1)) words
  (( CURRENT -= depth - 1 ))
  case $at in
)";
  for (auto* command : all) print_zsh_command(*command);
  std::cout << "  esac\n}\ncompdef _pretrained pretrained\n";
}

// "seen repo, seen branch, and none of its verbs yet".
std::string fish_condition(const Command& command) {
  std::string out;
  std::istringstream path(command.path);
  for (std::string word; std::getline(path, word, '/');)
    if (!word.empty())
      out += (out.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + word);
  if (command.path.empty()) return "__fish_use_subcommand";
  if (command.verbs.empty()) return out;
  return out + "; and not __fish_seen_subcommand_from " + names_of(command.verbs);
}

void print_fish(const std::vector<const Command*>& all) {
  for (auto* command : all) {
    std::string start = "complete -c pretrained -n '" + fish_condition(*command) + "' ";
    for (auto& verb : command->verbs)
      std::cout << start << "-f -a " << verb.name << " -d " << in_quotes(verb.description) << "\n";
    if (command->verbs.empty() && !words_of(*command).empty())
      std::cout << start << "-f -a '" << words_of(*command) << "'\n";
    for (auto& option : command->options) {
      std::cout << start << "-l " << option.name.substr(2) << " -d "
                << in_quotes(option.description);
      if (!option.values.empty())
        std::cout << " -x -a '" << option.values << "'";
      else if (option.takes_value)
        std::cout << " -r";
      std::cout << "\n";
    }
  }
}

}  // namespace

void add_completion(CLI::App& app) {
  static std::string shell = "bash";
  auto* command = app.add_subcommand("completion", "print completion for a shell");
  command->add_option("SHELL", shell, "bash, zsh or fish")
      ->capture_default_str()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n  source <(pretrained completion bash)\n  source <(pretrained completion zsh)\n"
      "  pretrained completion fish | source");
  command->callback([&app] {
    Command program = describe(app, "");
    std::vector<const Command*> all;
    list(program, all);
    if (shell == "bash") print_bash(all);
    if (shell == "zsh") print_zsh(all);
    if (shell == "fish") print_fish(all);
  });
}

}  // namespace pretrained::cli
