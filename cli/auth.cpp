#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"
#include "pretrained/hub/login.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/tokens.h"
#include "progress.h"
#include "terminal.h"

// Who one is: `pretrained auth`.

namespace pretrained::cli {
namespace {

struct Auth {
  Common common;
  std::string token, name;
};

// The first line of stdin, without blanks around it. Where stdin is empty, as that of a script or a
// service is, the browser is used unless a token was announced.
std::string read_token(bool announced) {
  constexpr size_t kLongest = 4096;
  std::string line, token;
  char c = '\0';
  while (line.size() < kLongest && std::cin.get(c) && c != '\n') line += c;
  bool any = !line.empty() || c == '\n';
  constexpr auto kBlank = " \t\r";
  if (size_t begin = line.find_first_not_of(kBlank); begin != line.npos)
    token = line.substr(begin, line.find_last_not_of(kBlank) + 1 - begin);
  if (token.empty() && (any || announced))
    throw ArgumentError("there is no token on standard input; on a terminal the browser is used");
  return token;
}

void note_environment(const Common& common) {
  std::string source = hub::token_source();
  if (!common.quiet && (source == "HF_TOKEN" || source == "HUGGING_FACE_HUB_TOKEN"))
    print_line(source + " is set in the environment and wins over what is stored");
}

void log_in(const Auth& arguments) {
  Login options{.token = arguments.token};
  if (options.token == "-" || (options.token.empty() && !isatty(0)))
    options.token = read_token(options.token == "-");
  LoginResult result = login(options);
  if (arguments.common.json)
    print_json(Json::Object{
        {"user", result.user}, {"token_name", result.token_name}, {"stored_in", result.stored_in}});
  else if (!arguments.common.quiet)
    std::cout << "logged in as " << printable(result.user) << " (token '"
              << printable(result.token_name) << "' in " << printable(result.stored_in) << ")\n";
  note_environment(arguments.common);
}

void whoami(const Auth& arguments) {
  auto client = connect(arguments.common);
  hub::Account account = client.whoami();
  Json::Array organizations;
  std::string list;
  for (auto& organization : account.organizations) {
    organizations.push_back(Json::Object{{"name", organization.name}, {"role", organization.role}});
    list += (list.empty() ? "" : ",") + organization.name;
  }
  if (arguments.common.json)
    return print_json(Json::Object{{"user", account.name},
                                   {"fullname", account.fullname},
                                   {"email", account.email},
                                   {"organizations", organizations},
                                   {"token_name", account.token_name},
                                   {"token_role", account.token_role},
                                   {"token_from", hub::token_source()},
                                   {"endpoint", client.endpoint()}});
  std::cout << "user: " << printable(account.name) << "\n";
  if (!list.empty()) std::cout << "orgs: " << printable(list, 4000) << "\n";
  std::cout << "token: " << printable(account.token_name) << " (" << printable(account.token_role)
            << ", from " << printable(hub::token_source()) << ")\nhub: " << client.endpoint()
            << "\n";
}

void list_tokens(const Auth& arguments) {
  for (auto& token : hub::list_tokens()) {
    if (arguments.common.json) {
      print_json(Json::Object{{"name", token.name},
                              {"active", token.active},
                              {"endpoint", token.endpoint},
                              {"expires_at", token.expires_at},
                              {"renewed", !token.refresh_token.empty()}});
      continue;
    }
    std::cout << (token.active ? "* " : "  ") << printable(token.name);
    if (!token.endpoint.empty()) std::cout << "  for " << printable(token.endpoint);
    if (token.expires_at)
      std::cout << "  expires " << date_text(token.expires_at)
                << (token.refresh_token.empty() ? "" : ", is renewed before");
    std::cout << "\n";
  }
  note_environment(arguments.common);
}

void switch_to(const Auth& arguments) {
  hub::activate_token(arguments.name);
  if (arguments.common.json)
    print_json(Json::Object{{"name", arguments.name}, {"active", true}});
  else if (!arguments.common.quiet)
    std::cout << "'" << printable(arguments.name) << "' is used from now on\n";
  note_environment(arguments.common);
}

void log_out(const Auth& arguments) {
  bool removed = hub::remove_token(arguments.name);
  if (!removed && !arguments.name.empty())
    throw NotFoundError("no token '" + arguments.name + "' is stored");
  if (arguments.common.json)
    print_json(Json::Object{{"removed", removed}});
  else if (!arguments.common.quiet)
    std::cout << (removed ? "logged out\n" : "no token was stored\n");
  note_environment(arguments.common);
}

}  // namespace

void add_auth(CLI::App& app) {
  static Auth arguments;
  auto* group = add_group(app, "auth", "log in to a hub, and who one is");
  auto add = [&](const char* name, const char* description, void (*verb)(const Auth&)) {
    auto* command = group->add_subcommand(name, description);
    add_common(*command, arguments.common);
    command->callback([verb] { verb(arguments); });
    return command;
  };
  auto* login = add("login", "log in in a browser, or with a token", log_in);
  login->add_option("--token", arguments.token, "an access token; '-' reads it from stdin")
      ->type_name("TOKEN");
  login->footer(
      "Examples:\n  pretrained auth login                    # shows an address and a code\n"
      "  pretrained auth login --token - < token.txt\n"
      "  HF_ENDPOINT=https://hub.example.org pretrained auth login");
  add("whoami", "the user, organisations and token of this machine", whoami)
      ->footer("Example:\n  pretrained auth whoami --json");
  add("list", "the names of the stored tokens", list_tokens)
      ->footer("Example:\n  pretrained auth list")
      ->alias("ls");
  auto* change = add("switch", "use another stored token", switch_to);
  change->add_option("NAME", arguments.name, "as `auth list` shows it")->required();
  change->footer("Example:\n  pretrained auth switch work-laptop");
  auto* logout = add("logout", "forget one token, or all", log_out);
  logout->add_option("NAME", arguments.name, "as `auth list` shows it; without it all");
  logout->footer("Example:\n  pretrained auth logout");
}

}  // namespace pretrained::cli
