#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"
#include "progress.h"

// Repositories as a whole: `pretrained repo`.

namespace pretrained::cli {
namespace {

struct RepoVerb {
  Common common;
  std::string repo, to, type = "model", gated, revision, search;
  size_t limit = 100;
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
  auto client = connect(arguments.common);
  auto repo = own_repo(client, arguments.repo, arguments.type);
  std::string url =
      client.create_repo(repo, {.private_ = arguments.private_, .exist_ok = arguments.exist_ok});
  print_done(arguments, repo.id, url, {{"url", url}});
}

void remove(const RepoVerb& arguments) {
  auto client = connect(arguments.common);
  auto repo = own_repo(client, arguments.repo, arguments.type);
  confirm("delete the " + arguments.type + " " + repo.id + " with its history on " +
              client.endpoint() + " for ever",
          arguments.yes);
  client.delete_repo(repo, arguments.missing_ok);
  print_done(arguments, repo.id, "deleted " + repo.id, {});
}

void move(const RepoVerb& arguments) {
  auto client = connect(arguments.common);
  auto repo = own_repo(client, arguments.repo, arguments.type);
  std::string to = client.full_repo_id(arguments.to);
  client.move_repo(repo, to);
  print_done(arguments, to, repo.id + " is now " + to, {{"from", repo.id}});
}

void change_settings(const RepoVerb& arguments) {
  if (!arguments.private_ && !arguments.public_ && arguments.gated.empty())
    throw ArgumentError("give --private, --public or --gated");
  auto client = connect(arguments.common);
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

Json::Object json_of(const hub::RepoInfo& info, const std::string& type) {
  return {{"id", info.id},
          {"type", type},
          {"commit", info.sha},
          {"private", info.private_},
          {"gated", info.gated},
          {"last_modified", info.last_modified},
          {"library", info.library_name},
          {"task", info.pipeline_tag},
          {"downloads", info.downloads},
          {"likes", info.likes},
          {"tags", Json::Array(info.tags.begin(), info.tags.end())}};
}

std::string access_of(const hub::RepoInfo& info) {
  return std::string(info.private_ ? "private" : "public") +
         (info.gated.empty() ? "" : ", gated (" + printable(info.gated) + ")");
}

// One's own, where nothing else is asked for.
void list(const RepoVerb& arguments) {
  auto client = connect(arguments.common);
  std::string owner = arguments.repo;
  if (owner.empty() && arguments.search.empty()) owner = client.whoami().name;
  for (auto& info : client.list_repos(hub::parse_repo_type(arguments.type), owner, arguments.search,
                                      arguments.limit))
    if (arguments.common.json)
      print_json(json_of(info, arguments.type));
    else
      std::cout << printable(info.id) << "  " << access_of(info) << "  "
                << printable(info.last_modified) << "\n";
}

void show(const RepoVerb& arguments) {
  auto client = connect(arguments.common);
  size_t at = std::min(arguments.repo.find('@'), arguments.repo.size());
  std::string id = client.full_repo_id(arguments.repo.substr(0, at));
  auto target = parse_target(id + arguments.repo.substr(at), arguments.revision, arguments.type);
  auto info = client.repo_info(target.repo, target.revision);
  auto files = client.list_files(target.repo, info.sha);
  if (arguments.common.json) {
    Json::Array list;
    for (auto& file : files)
      list.push_back(Json::Object{{"path", file.path}, {"size", int64_t(file.size)}});
    auto json = json_of(info, arguments.type);
    json["files"] = std::move(list);
    return print_json(json);
  }
  auto line = [](const char* name, const std::string& text) {
    if (!text.empty()) std::cout << name << ": " << printable(text, 2000) << "\n";
  };
  std::string tags;
  for (auto& tag : info.tags) tags += (tags.empty() ? "" : ", ") + tag;
  line(arguments.type.c_str(), info.id);
  line("commit", info.sha);
  line("access", access_of(info));
  line("changed", info.last_modified);
  line("library", info.library_name);
  line("task", info.pipeline_tag);
  line("tags", tags);
  std::cout << "files:\n";
  for (auto& file : files)
    std::cout << "  " << printable(file.path, 2000) << "  " << size_text(file.size) << "\n";
}

}  // namespace

void add_repo(CLI::App& app) {
  static RepoVerb arguments;
  auto* group = add_group(app, "repo", "make, list, change and remove repositories");
  auto add = [&](const char* name, const char* description, void (*verb)(const RepoVerb&)) {
    auto* command = group->add_subcommand(name, description);
    if (verb == list)
      command->add_option("OWNER", arguments.repo, "a user or organisation; oneself if not given");
    else
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
  auto* listing = add("list", "the repositories of a user or organisation", list);
  listing->add_option("--search", arguments.search, "only names that contain this; of all owners")
      ->type_name("TEXT");
  listing->add_option("--limit", arguments.limit, "how many at most")->capture_default_str();
  listing->alias("ls")->footer(
      "Examples:\n  pretrained repo list org --repo-type dataset\n"
      "  pretrained repo list --search resnet --json");
  auto* info = add("info", "commit, access, tags and files of a repository", show);
  info->add_option("--revision", arguments.revision, "a branch, tag or commit")
      ->type_name("REVISION");
  info->footer(
      "Examples:\n  pretrained repo info org/model\n  pretrained repo info org/model@v1.0 --json");
  add_branch(*group);
  add_tag(*group);
}

}  // namespace pretrained::cli
