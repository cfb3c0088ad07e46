#include <CLI/CLI.hpp>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"

// Repositories as a whole: `pretrained repo`.

namespace pretrained::cli {
namespace {

struct RepoVerb {
  Common common;
  std::string repo, to, type = "model", gated;
  bool private_ = false, public_ = false, exist_ok = false, missing_ok = false, yes = false;
};

// One line for people, the same for programs.
void print_done(const RepoVerb& arguments, const std::string& id, const std::string& text,
                Json::Object json) {
  json["id"] = id;
  json["type"] = arguments.type;
  if (arguments.common.json)
    print_json(json);
  else if (!arguments.common.quiet)
    std::cout << printable(text, 2000) << "\n";
}

void create(const RepoVerb& arguments) {
  hub::HubClient client;
  auto repo = own_repo(client, arguments.repo, arguments.type);
  std::string url =
      client.create_repo(repo, {.private_ = arguments.private_, .exist_ok = arguments.exist_ok});
  print_done(arguments, repo.id, url, {{"url", url}});
}

void remove(const RepoVerb& arguments) {
  hub::HubClient client;
  auto repo = own_repo(client, arguments.repo, arguments.type);
  confirm("delete the " + arguments.type + " " + repo.id + " with its history on " +
              client.endpoint() + " for ever",
          arguments.yes);
  client.delete_repo(repo, arguments.missing_ok);
  print_done(arguments, repo.id, "deleted " + repo.id, {});
}

void move(const RepoVerb& arguments) {
  hub::HubClient client;
  auto repo = own_repo(client, arguments.repo, arguments.type);
  std::string to = client.full_repo_id(arguments.to);
  client.move_repo(repo, to);
  print_done(arguments, to, repo.id + " is now " + to, {{"from", repo.id}});
}

void change_settings(const RepoVerb& arguments) {
  if (!arguments.private_ && !arguments.public_ && arguments.gated.empty())
    throw ArgumentError("give --private, --public or --gated");
  hub::HubClient client;
  auto repo = own_repo(client, arguments.repo, arguments.type);
  std::optional<bool> visibility;
  if (arguments.private_ || arguments.public_) visibility = arguments.private_;
  std::optional<std::string> gated;
  if (!arguments.gated.empty()) gated = arguments.gated;
  client.update_repo_settings(repo, visibility, gated);
  Json::Object json;
  if (visibility) json["private"] = *visibility;
  if (gated) json["gated"] = *gated;
  print_done(arguments, repo.id, "changed " + repo.id, json);
}

}  // namespace

void add_repo(CLI::App& app) {
  static RepoVerb arguments;
  auto* group = add_group(app, "repo", "make, change and remove repositories");
  auto add = [&](const char* name, const char* description, void (*verb)(const RepoVerb&)) {
    auto* command = group->add_subcommand(name, description);
    command->add_option("REPO", arguments.repo, "ORG/NAME, or NAME of one's own")->required();
    add_repo_type(*command, arguments.type);
    add_common(*command, arguments.common);
    command->callback([verb] { verb(arguments); });
    return command;
  };
  auto* creation = add("create", "a new, empty repository", create);
  creation->add_flag("--private", arguments.private_, "only for those who may read it");
  creation->add_flag("--exist-ok", arguments.exist_ok, "no error where it exists");
  creation->footer(
      "Examples:\n  pretrained repo create my-model --private\n"
      "  pretrained repo create org/data --repo-type dataset --exist-ok");
  auto* removal = add("delete", "remove a repository with its history", remove);
  removal->add_flag("--missing-ok", arguments.missing_ok, "no error where there is none");
  add_yes(*removal, arguments.yes);
  removal->footer("Example:\n  pretrained repo delete org/old-model --yes");
  auto* moving = add("move", "another name or owner; the old address leads to it", move);
  moving->add_option("TO", arguments.to, "ORG/NAME, or NAME of one's own")->required();
  moving->footer("Example:\n  pretrained repo move my-model org/my-model");
  auto* settings = add("settings", "who may see it, and who must ask", change_settings);
  auto* hidden =
      settings->add_flag("--private", arguments.private_, "only for those who may read it");
  settings->add_flag("--public", arguments.public_, "for everyone")->excludes(hidden);
  settings
      ->add_option("--gated", arguments.gated,
                   "access must be asked for: auto, manual (approved one by one), or false")
      ->type_name("MODE")
      ->check(CLI::IsMember({"auto", "manual", "false"}));
  settings->footer(
      "Examples:\n  pretrained repo settings org/model --public --gated manual\n"
      "  pretrained repo settings org/model --private");
  add_branch(*group);
  add_tag(*group);
}

}  // namespace pretrained::cli
