#include <CLI/CLI.hpp>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"

// Branches, tags and commits: `pretrained repo branch`, `pretrained repo tag`, `pretrained
// commits`.

namespace pretrained::cli {
namespace {

struct RefVerb {
  Common common;
  std::string repo, type = "model", name, revision, message;
  bool exist_ok = false, yes = false;
  size_t limit = 1000;
};

struct Kind {
  const char *word, *plural;
};
constexpr Kind kBranch{"branch", "branches"}, kTag{"tag", "tags"};

void print_done(const RefVerb& arguments, const Kind& kind, const hub::Repo& repo,
                const std::string& done) {
  if (arguments.common.json)
    print_json(Json::Object{{"id", repo.id}, {kind.word, arguments.name}, {"done", done}});
  else if (!arguments.common.quiet)
    std::cout << done << " " << kind.word << " " << printable(arguments.name) << " of " << repo.id
              << "\n";
}

void create(const RefVerb& arguments, const Kind& kind) {
  auto client = connect(arguments.common);
  auto repo = own_repo(client, arguments.repo, arguments.type);
  std::string from = arguments.revision.empty() ? "main" : arguments.revision;
  if (&kind == &kBranch)
    client.create_branch(repo, arguments.name, from, arguments.exist_ok);
  else
    client.create_tag(repo, arguments.name, from, arguments.message, arguments.exist_ok);
  print_done(arguments, kind, repo, "created");
}

void remove(const RefVerb& arguments, const Kind& kind) {
  auto client = connect(arguments.common);
  auto repo = own_repo(client, arguments.repo, arguments.type);
  confirm("delete the " + std::string(kind.word) + " " + arguments.name + " of " + repo.id,
          arguments.yes);
  &kind == &kBranch ? client.delete_branch(repo, arguments.name)
                    : client.delete_tag(repo, arguments.name);
  print_done(arguments, kind, repo, "deleted");
}

void list(const RefVerb& arguments, const Kind& kind) {
  auto client = connect(arguments.common);
  auto refs = client.list_refs(own_repo(client, arguments.repo, arguments.type));
  for (auto& ref : &kind == &kBranch ? refs.branches : refs.tags)
    if (arguments.common.json)
      print_json(Json::Object{{"name", ref.name}, {"ref", ref.ref}, {"target", ref.target}});
    else
      std::cout << printable(ref.target) << "  " << printable(ref.name) << "\n";
}

// create, delete and list of one kind of reference.
CLI::App* add_refs(CLI::App& repo, const Kind& kind, RefVerb& arguments) {
  std::string word = kind.word;
  auto* group = add_group(repo, word, "make, remove and list " + std::string(kind.plural));
  auto add = [&](const char* name, const std::string& description,
                 void (*verb)(const RefVerb&, const Kind&)) {
    auto* command = group->add_subcommand(name, description);
    command->add_option("REPO", arguments.repo, "ORG/NAME, or NAME of one's own")->required();
    if (verb != list) command->add_option("NAME", arguments.name, "of the " + word)->required();
    add_repo_type(*command, arguments.type);
    add_common(*command, arguments.common);
    command->callback([verb, &kind, &arguments] { verb(arguments, kind); });
    command->footer("Example:\n  pretrained repo " + word + " " + name + " org/model" +
                    (verb == list ? "" : " v1.0") + (verb == remove ? " --yes" : ""));
    return command;
  };
  auto* creation = add("create", "a new " + word, create);
  creation
      ->add_option("--revision", arguments.revision,
                   "where it begins: a branch, tag or commit; "
                   "main if not given")
      ->type_name("REVISION");
  creation->add_flag("--exist-ok", arguments.exist_ok, "no error where it exists");
  add_yes(*add("delete", "remove a " + word, remove), arguments.yes);
  add("list", "each " + word + " with its commit", list)->alias("ls");
  return creation;
}

void print_commits(const RefVerb& arguments) {
  auto target = parse_target(arguments.repo, arguments.revision, arguments.type);
  auto client = connect(arguments.common);
  for (auto& commit : client.list_commits(target.repo, target.revision, arguments.limit)) {
    std::string authors;
    Json::Array list;
    for (auto& author : commit.authors) {
      list.push_back(author);
      authors += (authors.empty() ? "" : ", ") + author;
    }
    if (arguments.common.json)
      print_json(Json::Object{{"id", commit.oid},
                              {"date", commit.date},
                              {"authors", list},
                              {"title", commit.title},
                              {"message", commit.message}});
    else
      std::cout << printable(commit.oid) << "  " << printable(commit.date) << "  "
                << printable(authors) << "  " << printable(commit.title) << "\n";
  }
}

}  // namespace

void add_branch(CLI::App& repo) {
  static RefVerb arguments;
  add_refs(repo, kBranch, arguments);
}

void add_tag(CLI::App& repo) {
  static RefVerb arguments;
  add_refs(repo, kTag, arguments)
      ->add_option("-m,--message", arguments.message, "what it is for")
      ->type_name("TEXT");
}

void add_commits(CLI::App& app) {
  static RefVerb arguments;
  auto* command = app.add_subcommand("commits", "the history of a repository, newest first");
  command->add_option("REPO", arguments.repo, "ORG/NAME or ORG/NAME@REVISION")->required();
  command->add_option("--revision", arguments.revision, "a branch, tag or commit")
      ->type_name("REVISION");
  command->add_option("--limit", arguments.limit, "how many at most")->capture_default_str();
  add_repo_type(*command, arguments.type);
  add_common(*command, arguments.common);
  command->footer(
      "Examples:\n  pretrained commits org/model\n  pretrained commits org/model@v1.0 --json");
  command->callback([] { print_commits(arguments); });
}

}  // namespace pretrained::cli
