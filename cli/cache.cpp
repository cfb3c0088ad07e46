#include "pretrained/hub/cache.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"
#include "progress.h"
#include "terminal.h"

// What is on this machine already: `pretrained cache`.

namespace pretrained::cli {
namespace {

struct CacheVerb {
  Common common;
  std::string cache_dir, type = "model";
  std::vector<std::string> repos;
  bool yes = false;
};

Json json_of(const hub::CachedRepo& cached) {
  Json::Array revisions;
  for (auto& revision : cached.revisions)
    revisions.push_back(
        Json::Object{{"commit", revision.commit},
                     {"refs", Json::Array(revision.refs.begin(), revision.refs.end())},
                     {"size", int64_t(revision.size)},
                     {"files", int64_t(revision.files)},
                     {"last_modified", revision.last_modified}});
  return Json::Object{{"id", cached.repo.id},
                      {"type", hub::type_name(cached.repo.type)},
                      {"folder", cached.folder.string()},
                      {"size", int64_t(cached.size)},
                      {"revisions", revisions},
                      {"problems", Json::Array(cached.problems.begin(), cached.problems.end())}};
}

void print_text(const hub::CachedRepo& cached) {
  std::cout << hub::type_name(cached.repo.type) << " " << printable(cached.repo.id) << "  "
            << size_text(cached.size) << "\n";
  for (auto& revision : cached.revisions) {
    std::string refs;
    for (auto& ref : revision.refs) refs += (refs.empty() ? "" : ", ") + ref;
    std::cout << "  " << printable(revision.commit) << "  " << size_text(revision.size) << "  "
              << revision.files << (revision.files == 1 ? " file  " : " files  ")
              << date_text(revision.last_modified) << "  " << printable(refs) << "\n";
  }
}

void list(const CacheVerb& arguments) {
  hub::Cache cache(arguments.cache_dir);
  uint64_t size = 0, repos = 0;
  for (auto& cached : hub::scan_cache(cache)) {
    arguments.common.json ? print_json(json_of(cached)) : print_text(cached);
    for (auto& problem : cached.problems)
      if (!arguments.common.quiet) print_line(problem);
    size += cached.size, ++repos;
  }
  if (!arguments.common.json && !arguments.common.quiet)
    print_line(std::to_string(repos) + (repos == 1 ? " repository, " : " repositories, ") +
               size_text(size) + " in " + cache.root().string());
}

// What REPO[@REVISION] stands for in the cache: a repository, with "" for all of its revisions.
struct Chosen {
  hub::Repo repo;
  std::string revision;
};

Chosen choose(const hub::Cache& cache, const std::vector<hub::CachedRepo>& all,
              const std::string& text, const std::string& type) {
  auto reference = hub::parse_repo_reference(text);
  if (!reference)
    throw ArgumentError("'" + printable(text) +
                        "' names no repository: expected ORG/NAME or ORG/NAME@REVISION");
  hub::Repo repo{reference->id, hub::parse_repo_type(type)};
  auto cached = std::find_if(all.begin(), all.end(), [&](auto& other) {
    return other.repo.id == repo.id && other.repo.type == repo.type;
  });
  std::string where = " is not in the cache " + cache.root().string();
  if (cached == all.end()) throw NotFoundError("the " + type + " " + repo.id + where);
  if (reference->revision.empty()) return {repo, ""};
  std::string commit = cache.read_ref(repo, reference->revision).value_or("");
  for (auto& revision : cached->revisions)
    if (revision.commit == commit) return {repo, reference->revision};
  throw NotFoundError(repo.id + "@" + reference->revision + where);
}

void remove(const CacheVerb& arguments) {
  hub::Cache cache(arguments.cache_dir);
  auto all = hub::scan_cache(cache);
  std::vector<Chosen> chosen;
  std::string what;
  for (auto& text : arguments.repos) {
    chosen.push_back(choose(cache, all, text, arguments.type));
    what += (what.empty() ? "" : ", ") + text;
  }
  confirm("remove " + what + " from the cache " + cache.root().string(), arguments.yes);
  uint64_t freed = 0;
  for (auto& [repo, revision] : chosen) freed += hub::remove_cached(cache, repo, revision);
  if (arguments.common.json)
    print_json(Json::Object{{"freed", int64_t(freed)}});
  else if (!arguments.common.quiet)
    std::cout << size_text(freed) << " freed\n";
}

void verify(const CacheVerb& arguments) {
  hub::Cache cache(arguments.cache_dir);
  auto all = hub::scan_cache(cache);
  std::vector<hub::Repo> repos;
  for (auto& text : arguments.repos) repos.push_back(choose(cache, all, text, arguments.type).repo);
  if (arguments.repos.empty())
    for (auto& cached : all) repos.push_back(cached.repo);
  size_t broken = 0;
  for (auto& repo : repos) {
    auto problems = hub::verify_cached(cache, repo);
    broken += problems.size();
    for (auto& problem : problems) print_line(problem);
    if (arguments.common.json)
      print_json(Json::Object{{"id", repo.id},
                              {"type", hub::type_name(repo.type)},
                              {"problems", Json::Array(problems.begin(), problems.end())}});
    else if (problems.empty() && !arguments.common.quiet)
      std::cout << hub::type_name(repo.type) << " " << printable(repo.id) << "  ok\n";
  }
  if (broken > 0)
    throw FormatError(std::to_string(broken) + (broken == 1 ? " file is" : " files are") +
                      " not what the hub had: `pretrained cache rm` and download again");
}

}  // namespace

void add_cache(CLI::App& app) {
  static CacheVerb arguments;
  auto* group = add_group(app, "cache", "what was downloaded to this machine");
  auto add = [&](const char* name, const char* description, void (*verb)(const CacheVerb&)) {
    auto* command = group->add_subcommand(name, description);
    command->add_option("--cache-dir", arguments.cache_dir, "another cache than HF_HUB_CACHE")
        ->type_name("DIR");
    add_common(*command, arguments.common);
    command->callback([verb] { verb(arguments); });
    return command;
  };
  add("ls", "repositories and revisions with their sizes", list)
      ->footer("Example:\n  pretrained cache ls --json")
      ->alias("list");
  auto* removal = add("rm", "remove repositories or single revisions", remove);
  removal->add_option("REPO", arguments.repos, "ORG/NAME or ORG/NAME@REVISION")->required();
  add_repo_type(*removal, arguments.type);
  add_yes(*removal, arguments.yes);
  removal->footer(
      "A branch or tag goes alone where another names its commit too.\n"
      "Examples:\n  pretrained cache rm org/model\n  pretrained cache rm org/model@v1.0 --yes");
  auto* check = add("verify", "hash every file again", verify);
  check->add_option("REPO", arguments.repos, "ORG/NAME; all if not given");
  add_repo_type(*check, arguments.type);
  check->footer("Example:\n  pretrained cache verify org/model");
}

}  // namespace pretrained::cli
