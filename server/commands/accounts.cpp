#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "pretrained/base/error.h"
#include "server/commands/commands.h"

// pretrained-hub user|org|token: accounts from the command line, beside a running server or not.

namespace pretrained::server {
namespace {

Account require_account(Hub& hub, const std::string& name, bool org) {
  auto account = hub.accounts.find(name);
  if (!account || account->is_org != org)
    throw NotFoundError("no " + std::string(org ? "organisation" : "user") + " is called '" +
                        printable(name) + "'; `pretrained-hub " + (org ? "org" : "user") +
                        " list` names them");
  return *account;
}

void keep_an_admin(Hub& hub, const Account& leaving) {
  if (!leaving.is_admin || leaving.disabled) return;
  for (auto& other : hub.accounts.list(false))
    if (other.id != leaving.id && other.is_admin && !other.disabled) return;
  throw ConflictError(leaving.name +
                      " is the last administrator of this hub: create another one first "
                      "(`pretrained-hub user create NAME --admin`), or add --force");
}

Json to_json(const Account& account) {
  return Json::Object{{"name", account.name},
                      {"type", account.is_org ? "org" : "user"},
                      {"fullname", account.fullname},
                      {"email", account.email},
                      {"admin", account.is_admin},
                      {"disabled", account.disabled},
                      {"quota_bytes", account.quota_bytes ? Json(*account.quota_bytes) : Json()},
                      {"created_at", iso8601(account.created_at)}};
}

std::string describe(const Account& account) {
  std::string line = account.name;
  if (account.is_admin) line += "  (hub admin)";
  if (account.disabled) line += "  (disabled)";
  if (account.quota_bytes) line += "  quota " + std::to_string(*account.quota_bytes) + " bytes";
  return line;
}

void print_list(const Common& common, const std::vector<Account>& accounts) {
  Json::Array list;
  std::string text;
  for (auto& account : accounts) {
    list.push_back(to_json(account));
    text += (text.empty() ? "" : "\n") + describe(account);
  }
  print(common, list, text);
}

// One line of standard input; on a terminal asked for and not shown.
std::string read_secret(const std::string& what) {
  std::string line;
  termios before;
  bool terminal = isatty(0) && tcgetattr(0, &before) == 0;
  if (terminal) {
    termios silent = before;
    silent.c_lflag &= ~tcflag_t(ECHO);
    tcsetattr(0, TCSAFLUSH, &silent);
    std::cerr << what << ": " << std::flush;
  }
  std::getline(std::cin, line);
  if (terminal) {
    tcsetattr(0, TCSAFLUSH, &before);
    std::cerr << std::endl;
  }
  if (line.empty()) throw ArgumentError("standard input held no " + what);
  return line;
}

Caller console() {
  Caller caller;
  caller.address = "console";
  return caller;
}

std::string example(const std::string& words) {
  return "Example:\n  pretrained-hub " + words + " --data /srv/hub";
}

// A verb with its own options that opens the hub and runs `body`.
template <class Options>
CLI::App* add_verb(CLI::App* parent, const std::string& name, const std::string& help,
                   const std::string& words, const std::shared_ptr<Options>& options,
                   std::function<void(Hub&, Options&)> body) {
  CLI::App* command = parent->add_subcommand(name, help);
  command->footer(example(parent->get_name() + " " + name + (words.empty() ? "" : " ") + words));
  add_common(*command, options->common);
  command->callback([options, body] {
    Hub hub(existing(options->common));
    body(hub, *options);
  });
  return command;
}

struct AccountOptions {
  Common common;
  std::string name, email, fullname, admin, user, role = "read", quota;
  bool is_admin = false, password = false, remove = false, force = false;
};

}  // namespace

void add_user(CLI::App& app) {
  CLI::App* user = app.add_subcommand("user", "create, list, change and remove users");
  user->require_subcommand(1);
  user->footer(
      "Examples:\n  pretrained-hub user create alice --email alice@example.org --data /srv/hub\n"
      "  pretrained-hub user password alice --data /srv/hub\n"
      "  pretrained-hub user quota alice 100GB --data /srv/hub");
  auto o = std::make_shared<AccountOptions>();
  auto* create = add_verb<AccountOptions>(
      user, "create", "create a user and print a first token", "alice --email alice@example.org", o,
      [](Hub& hub, AccountOptions& o) {
        Account account = hub.accounts.create_user(o.name, o.email, o.is_admin);
        auto token = hub.accounts.create_token(account.id, "first", "write");
        hub.accounts.audit(console(), "user.create", account.name);
        print(o.common, Json::Object{{"name", account.name}, {"token", token.secret}},
              "created " + account.name + "; its token, shown once: " + token.secret);
      });
  create->add_option("name", o->name, "its name")->required();
  create->add_option("--email", o->email, "mail address");
  create->add_flag("--admin", o->is_admin, "may do everything on this hub");
  add_verb<AccountOptions>(user, "list", "name the users", "", o, [](Hub& hub, AccountOptions& o) {
    print_list(o.common, hub.accounts.list(false));
  });
  auto* password = add_verb<AccountOptions>(
      user, "password",
      "set a password for the page of `hf auth login`; asked for, or read from a pipe", "alice", o,
      [](Hub& hub, AccountOptions& o) {
        hub.accounts.set_password(require_account(hub, o.name, false).id, read_secret("password"));
        hub.accounts.audit(console(), "user.password", o.name);
      });
  password->add_option("name", o->name, "its name")->required();
  auto* quota = add_verb<AccountOptions>(
      user, "quota", "limit what a user or organisation may store", "acme 500GB", o,
      [](Hub& hub, AccountOptions& o) {
        auto account = hub.accounts.find(o.name);
        if (!account) throw NotFoundError("no account is called '" + printable(o.name) + "'");
        hub.accounts.set_quota(account->id, o.quota == "none"
                                                ? std::optional<int64_t>()
                                                : int64_t(parse_size("size", o.quota)));
        hub.accounts.audit(console(), "account.quota", o.name, o.quota);
      });
  quota->add_option("name", o->name, "its name")->required();
  quota->add_option("size", o->quota, "100GB, 512MiB, none")->required();
  for (bool disable : {true, false}) {
    auto* command = add_verb<AccountOptions>(
        user, disable ? "disable" : "enable",
        disable ? "refuse every token of a user" : "accept a disabled user's tokens again", "alice",
        o, [disable](Hub& hub, AccountOptions& o) {
          hub.accounts.set_disabled(require_account(hub, o.name, false).id, disable);
          hub.accounts.audit(console(), disable ? "user.disable" : "user.enable", o.name);
        });
    command->add_option("name", o->name, "its name")->required();
  }
  auto* remove = add_verb<AccountOptions>(user, "remove", "remove a user that owns no repositories",
                                          "alice", o, [](Hub& hub, AccountOptions& o) {
                                            Account account = require_account(hub, o.name, false);
                                            if (!o.force) keep_an_admin(hub, account);
                                            hub.accounts.remove(account.id);
                                            hub.accounts.audit(console(), "user.remove", o.name);
                                          });
  remove->add_option("name", o->name, "its name")->required();
  remove->add_flag("--force", o->force, "even the last administrator of the hub");
}

void add_org(CLI::App& app) {
  CLI::App* org =
      app.add_subcommand("org", "create, list and remove organisations, and their members");
  org->require_subcommand(1);
  org->footer(
      "Examples:\n  pretrained-hub org create acme --admin alice --data /srv/hub\n"
      "  pretrained-hub org member acme bob --role write --data /srv/hub");
  auto o = std::make_shared<AccountOptions>();
  auto* create = add_verb<AccountOptions>(
      org, "create", "create an organisation", "acme --admin alice", o,
      [](Hub& hub, AccountOptions& o) {
        Account admin = require_account(hub, o.admin, false);
        Account account = hub.accounts.create_org(o.name, o.fullname, admin.id);
        hub.accounts.audit(console(), "org.create", account.name);
        print(o.common, to_json(account), "created " + account.name);
      });
  create->add_option("name", o->name, "its name")->required();
  create->add_option("--admin", o->admin, "the user who administers it")->required();
  create->add_option("--fullname", o->fullname, "the name that people read");
  add_verb<AccountOptions>(
      org, "list", "name the organisations", "", o,
      [](Hub& hub, AccountOptions& o) { print_list(o.common, hub.accounts.list(true)); });
  auto* member = add_verb<AccountOptions>(
      org, "member", "add a member, change or remove it", "acme bob --role write", o,
      [](Hub& hub, AccountOptions& o) {
        auto role = parse_role(o.role);
        if (!role || *role == Role::none)
          throw ArgumentError("--role: expected read, write or admin, got '" + printable(o.role) +
                              "'");
        hub.accounts.set_member(require_account(hub, o.name, true).id,
                                require_account(hub, o.user, false).id,
                                o.remove ? std::optional<Role>() : role);
        hub.accounts.audit(console(), "org.member", o.name,
                           o.user + (o.remove ? " removed" : " " + o.role));
      });
  member->add_option("org", o->name, "the organisation")->required();
  member->add_option("user", o->user, "the user")->required();
  member->add_option("--role", o->role, "read, write or admin (read)");
  member->add_flag("--remove", o->remove, "take it out of the organisation");
  auto* members = add_verb<AccountOptions>(
      org, "members", "name the members of an organisation", "acme", o,
      [](Hub& hub, AccountOptions& o) {
        Json::Array list;
        std::string text;
        for (auto& member : hub.accounts.members(require_account(hub, o.name, true).id)) {
          std::string role(to_string(member.role));
          list.push_back(Json::Object{{"name", member.account.name}, {"role", role}});
          text += (text.empty() ? "" : "\n") + member.account.name + "  " + role;
        }
        print(o.common, list, text);
      });
  members->add_option("org", o->name, "the organisation")->required();
  auto* remove =
      add_verb<AccountOptions>(org, "remove", "remove an organisation that owns no repositories",
                               "acme", o, [](Hub& hub, AccountOptions& o) {
                                 hub.accounts.remove(require_account(hub, o.name, true).id);
                                 hub.accounts.audit(console(), "org.remove", o.name);
                               });
  remove->add_option("name", o->name, "its name")->required();
}

namespace {

struct TokenOptions {
  Common common;
  std::string user, name = "token", role = "write", expires;
  std::vector<std::string> scopes;
};

std::map<std::string, Role> parse_scopes(const std::vector<std::string>& texts) {
  std::map<std::string, Role> scopes;
  for (auto& text : texts) {
    auto at = text.rfind('=');
    auto role = at == std::string::npos ? std::nullopt : parse_role(text.substr(at + 1));
    if (!role)
      throw ArgumentError("--scope '" + printable(text) +
                          "': expected model/org/name=read, …=write or …=admin");
    scopes[text.substr(0, at)] = *role;
  }
  return scopes;
}

}  // namespace

void add_token(CLI::App& app) {
  CLI::App* token = app.add_subcommand("token", "create, list and revoke access tokens");
  token->require_subcommand(1);
  token->footer(
      "Examples:\n  pretrained-hub token create alice --name laptop --expires 90d --data /srv/hub\n"
      "  pretrained-hub token create ci --role fineGrained --scope model/acme/net=write --data "
      "/srv/hub\n"
      "  pretrained-hub token revoke alice --name laptop --data /srv/hub");
  auto o = std::make_shared<TokenOptions>();
  auto* create = add_verb<TokenOptions>(
      token, "create", "create a token and print it once", "alice --name laptop --expires 90d", o,
      [](Hub& hub, TokenOptions& o) {
        std::optional<int64_t> expires;
        if (!o.expires.empty()) expires = now_ms() + parse_duration("--expires", o.expires) * 1000;
        auto created = hub.accounts.create_token(require_account(hub, o.user, false).id, o.name,
                                                 o.role, parse_scopes(o.scopes), expires);
        hub.accounts.audit(console(), "token.create", o.user, o.name);
        print(o.common, Json::Object{{"name", o.name}, {"token", created.secret}}, created.secret);
      });
  create->add_option("user", o->user, "the user")->required();
  create->add_option("--name", o->name, "what lists call it (token)");
  create->add_option("--role", o->role, "read, write or fineGrained (write)");
  create->add_option("--scope", o->scopes, "fineGrained: model/org/name=read|write|admin");
  create->add_option("--expires", o->expires, "after this time: 12h, 90d (never)");
  auto* list = add_verb<TokenOptions>(
      token, "list", "name a user's tokens", "alice", o, [](Hub& hub, TokenOptions& o) {
        Json::Array items;
        std::string text;
        for (auto& t : hub.accounts.tokens(require_account(hub, o.user, false).id)) {
          items.push_back(
              Json::Object{{"name", t.name},
                           {"role", t.role},
                           {"created_at", iso8601(t.created_at)},
                           {"expires_at", t.expires_at ? Json(iso8601(*t.expires_at)) : Json()},
                           {"revoked", t.revoked_at.has_value()}});
          text += (text.empty() ? "" : "\n") + printable(t.name) + "  " + t.role +
                  (t.revoked_at ? "  (revoked)" : "");
        }
        print(o.common, items, text);
      });
  list->add_option("user", o->user, "the user")->required();
  auto* revoke = add_verb<TokenOptions>(
      token, "revoke", "revoke a token", "alice --name laptop", o, [](Hub& hub, TokenOptions& o) {
        for (auto& t : hub.accounts.tokens(require_account(hub, o.user, false).id))
          if (t.name == o.name) {
            hub.accounts.revoke(t.id);
            hub.accounts.audit(console(), "token.revoke", o.user, o.name);
            return;
          }
        throw NotFoundError(o.user + " has no token called '" + printable(o.name) + "'");
      });
  revoke->add_option("user", o->user, "the user")->required();
  revoke->add_option("--name", o->name, "as `token list` shows it")->required();
}

}  // namespace pretrained::server
