#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/json.h"
#include "pretrained/hub/download.h"
#include "pretrained/hub/lock.h"
#include "terminal.h"

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  Common common;
  std::string model, lock;
};

struct Place {
  fs::path folder;
  std::string repository, commit;
  bool in_cache = false;  // a snapshot that a hub's client made
};

Place find(const std::string& model) {
  std::error_code error;
  auto repo = hub::parse_repo_reference(model);
  bool is_commit = repo && hub::is_commit_hash(repo->revision);  // never a folder, as in locate()
  if (!is_commit && fs::is_directory(model, error)) {
    fs::path folder = fs::canonical(model);
    return {folder, "", "", folder.parent_path().filename() == "snapshots"};
  }
  if (!repo)
    throw NotFoundError(printable(model) +
                        ": no such folder, and no name of a repository (org/name)" +
                        own_name(model, "model"));
  hub::Download wanted;
  if (!repo->revision.empty()) wanted.revision = repo->revision;
  auto snapshot = hub::snapshot_download(connect({}), {repo->id}, wanted);
  return {snapshot.folder, repo->id, snapshot.commit, true};
}

void write_lock(const Arguments& arguments) {
  Place place = find(arguments.model);
  hub::Lock lock = hub::lock_folder(place.folder);
  lock.repository = place.repository;
  lock.commit = place.commit;
  fs::path target = !arguments.lock.empty()    ? fs::path(arguments.lock)
                    : place.repository.empty() ? place.folder / "pretrained.lock"
                                               : fs::path("pretrained.lock");
  write_file_atomically(target, lock.text());
  if (arguments.common.json)
    std::cout << Json(Json::Object{{"lock", target.string()},
                                   {"commit", lock.commit},
                                   {"files", int64_t(lock.files.size())}})
                     .dump(0)
              << "\n";
  else if (!arguments.common.quiet)
    std::cout << printable(target.string(), 8000) << ": " << lock.files.size() << " files\n";
}

void verify(const Arguments& arguments) {
  Place place = find(arguments.model);
  std::vector<std::string> problems;
  if (place.in_cache) problems = hub::check_snapshot(place.folder);
  fs::path file = arguments.lock;
  if (file.empty() && !place.in_cache) file = place.folder / "pretrained.lock";
  size_t files = 0;
  if (!file.empty()) {
    hub::Lock lock = hub::parse_lock(read_file(file), file.string());
    files = lock.files.size();
    if (!place.commit.empty() && !lock.commit.empty() && place.commit != lock.commit)
      problems.push_back("this is commit " + place.commit + ", locked is " + lock.commit);
    for (auto& problem : hub::check_lock(place.folder, lock)) problems.push_back(problem);
  }
  if (arguments.common.json) {
    Json::Array list(problems.begin(), problems.end());
    std::cout << Json(Json::Object{{"folder", place.folder.string()}, {"problems", list}}).dump(0)
              << "\n";
  } else {
    for (auto& problem : problems) print_line(problem);
  }
  if (!problems.empty())
    throw FormatError(printable(place.folder.string(), 8000) + ": " +
                      std::to_string(problems.size()) +
                      (problems.size() == 1 ? " problem" : " problems"));
  if (!arguments.common.json && !arguments.common.quiet)
    std::cout << printable(place.folder.string(), 8000) << ": "
              << (files ? "as locked" : "as its blobs are named") << "\n";
}

}  // namespace

void add_lock(CLI::App& app) {
  static Arguments arguments;
  auto* command = app.add_subcommand("lock", "write down the SHA-256 of every file of a model");
  command->add_option("MODEL", arguments.model, "folder, org/name or org/name@commit")->required();
  command
      ->add_option("-o,--output", arguments.lock,
                   "where to; else pretrained.lock in the folder, of a repository here")
      ->type_name("FILE");
  add_offline(*command);
  add_common(*command, arguments.common);
  command->footer("Example:\n  pretrained lock org/custom-resnet50d -o resnet.lock");
  command->callback([] { write_lock(arguments); });
}

void add_verify(CLI::App& app) {
  static Arguments arguments;
  auto* command = app.add_subcommand(
      "verify", "hash every file of a model: as locked, and as the hub named it?");
  command->add_option("MODEL", arguments.model, "folder, org/name or org/name@commit")->required();
  command->add_option("--lock", arguments.lock, "else pretrained.lock in the folder")
      ->type_name("FILE");
  add_offline(*command);
  add_common(*command, arguments.common);
  command->footer(
      "Examples:\n  pretrained verify org/custom-resnet50d --lock resnet.lock\n"
      "  pretrained verify my-model");
  command->callback([] { verify(arguments); });
}

}  // namespace pretrained::cli
