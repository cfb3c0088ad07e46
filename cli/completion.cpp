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
  std::string name, description;
  std::vector<Option> options;
};

std::string values_of(const std::string& option) {
  if (option == "--dtype") return "auto float32 bfloat16 float16 float64";
  if (option == "--device") return "cpu cuda";
  if (option == "--auto-class") return "AutoModel AutoModelForImageClassification";
  return "";
}

Command describe(const CLI::App& app) {
  Command command{app.get_name(), app.get_description(), {}};
  for (auto* option : app.get_options())
    for (auto& name : option->get_lnames())
      command.options.push_back({"--" + name, option->get_description(),
                                 option->get_items_expected_max() > 0, values_of("--" + name)});
  return command;
}

std::vector<Command> commands_of(const CLI::App& app) {
  std::vector<Command> commands;
  for (auto* command : app.get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(describe(*command));
  return commands;
}

template <class Items>
std::string names_of(const Items& items) {
  std::string names;
  for (auto& item : items) names += (names.empty() ? "" : " ") + item.name;
  return names;
}

// 'text' for any of the three shells, without what zsh's _arguments would read as its own syntax.
std::string quoted(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '\'' ? std::string("’") : std::string(1, c);
  return "'" + out + "'";
}

std::string plain(std::string text) {
  for (char& c : text)
    if (c == '[' || c == ']' || c == ':') c = ' ';
  return text;
}

void print_bash(const Command& all, const std::vector<Command>& commands) {
  std::ostringstream values, options;
  for (auto& command : commands) {
    options << "      " << command.name << ") words='" << names_of(command.options) << "' ;;\n";
    for (auto& option : command.options)
      if (!option.values.empty())
        values << "    " << command.name << "/" << option.name << ") words='" << option.values
               << "' ;;\n";
  }
  std::cout << R"(_pretrained() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=
  case ${COMP_WORDS[1]}/$prev in
)" << values.str()
            << R"(    completion/completion) words='bash zsh fish' ;;
  esac
  if [ "$COMP_CWORD" = 1 ]; then
    words=')"
            << names_of(commands) << " " << names_of(all.options) << R"('
  elif [ -z "$words" ] && [[ $cur == -* ]]; then
    case ${COMP_WORDS[1]} in
)" << options.str()
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

void print_zsh(const Command& all, const std::vector<Command>& commands) {
  std::cout << "#compdef pretrained\n_pretrained() {\n  local -a commands\n  commands=(\n";
  for (auto& command : commands)
    std::cout << "    " << quoted(command.name + ":" + plain(command.description)) << "\n";
  std::cout << "  )\n  if (( CURRENT == 2 )); then\n    if [[ $PREFIX == -* ]]; then\n"
            << "      compadd -- " << names_of(all.options)
            << "\n    else\n      _describe command commands\n    fi\n    return\n  fi\n"
            << "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n";
  for (auto& command : commands) {
    std::cout << "    " << command.name << ")\n      _arguments";
    for (auto& option : command.options) {
      std::string text = option.name + "[" + plain(option.description) + "]";
      if (option.takes_value)
        text += ":value:" + (option.values.empty() ? "_files" : "(" + option.values + ")");
      std::cout << " \\\n        " << quoted(text);
    }
    std::string rest = command.name == "completion" ? "1:shell:(bash zsh fish)" : "*:file:_files";
    std::cout << " \\\n        " << quoted(rest) << " ;;\n";
  }
  std::cout << "  esac\n}\ncompdef _pretrained pretrained\n";
}

void print_fish(const Command& all, const std::vector<Command>& commands) {
  auto line = [](const std::string& condition, const std::string& rest) {
    std::cout << "complete -c pretrained -n '" << condition << "' " << rest << "\n";
  };
  for (auto& option : all.options)
    line("__fish_use_subcommand",
         "-l " + option.name.substr(2) + " -d " + quoted(option.description));
  for (auto& command : commands)
    line("__fish_use_subcommand", "-f -a " + command.name + " -d " + quoted(command.description));
  for (auto& command : commands)
    for (auto& option : command.options) {
      std::string rest = "-l " + option.name.substr(2) + " -d " + quoted(option.description);
      if (!option.values.empty())
        rest += " -x -a '" + option.values + "'";
      else if (option.takes_value)
        rest += " -r";
      line("__fish_seen_subcommand_from " + command.name, rest);
    }
  line("__fish_seen_subcommand_from completion", "-f -a 'bash zsh fish'");
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
    Command all = describe(app);
    auto commands = commands_of(app);
    if (shell == "bash") print_bash(all, commands);
    if (shell == "zsh") print_zsh(all, commands);
    if (shell == "fish") print_fish(all, commands);
  });
}

}  // namespace pretrained::cli
