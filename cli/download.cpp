#include "pretrained/hub/download.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"

// Files of a repository: `pretrained download`.

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

struct DownloadVerb {
  Common common;
  std::string repo, type = "model", revision, cache_dir, local_dir;
  std::vector<std::string> files;
  hub::Download options;
};

// A name as the pattern that matches it alone.
std::string literal(const std::string& name) {
  std::string out;
  for (char c : name)
    out += c == '*' || c == '?' || c == '[' ? "[" + std::string(1, c) + "]" : std::string(1, c);
  return out;
}

bool is_folder(const std::string& name) { return name.ends_with('/'); }

// A name that nothing came for: the library says what there is instead.
void require(const hub::HubClient& client, const hub::Repo& repo, const std::string& name,
             const hub::Snapshot& snapshot, hub::Download options) {
  bool found = std::any_of(snapshot.files.begin(), snapshot.files.end(), [&](auto& file) {
    return is_folder(name) ? file.starts_with(name) : file == name;
  });
  if (found) return;
  if (is_folder(name))
    throw hub::EntryNotFound(repo.id + "@" + options.revision + ": no folder '" + name + "'");
  options.allow_patterns.clear();
  hub::hf_hub_download(client, repo, name, options);
}

// The folder, or with a single file its path.
fs::path fetch(const hub::HubClient& client, const hub::Repo& repo, const DownloadVerb& arguments,
               hub::Download options, hub::Snapshot& snapshot) {
  if (arguments.files.size() == 1 && !is_folder(arguments.files[0]) &&
      options.ignore_patterns.empty() && options.allow_patterns.empty())
    return hub::hf_hub_download(client, repo, arguments.files[0], options);
  for (auto& name : arguments.files) options.allow_patterns.push_back(literal(name));
  snapshot = hub::snapshot_download(client, repo, options);
  for (auto& name : arguments.files) require(client, repo, name, snapshot, options);
  return snapshot.folder;
}

void download(const DownloadVerb& arguments) {
  auto target = parse_target(arguments.repo, arguments.revision, arguments.type);
  auto client = connect(arguments.common);
  hub::Download options = arguments.options;
  options.revision = target.revision;
  options.cache_dir = arguments.cache_dir;
  options.local_dir = arguments.local_dir;
  hub::Snapshot snapshot;
  fs::path path;
  run_transfer("downloading", arguments.common, [&](const hub::OnTransfer& on_transfer) {
    options.on_transfer = on_transfer;
    path = fetch(client, target.repo, arguments, options, snapshot);
  });
  if (!arguments.common.json) {
    std::cout << path.string() << "\n";
    return;
  }
  Json::Object json{{"path", path.string()}};
  if (!snapshot.folder.empty()) {
    json["commit"] = snapshot.commit;
    json["files"] = Json::Array(snapshot.files.begin(), snapshot.files.end());
    json["bytes_downloaded"] = int64_t(snapshot.downloaded);
  }
  print_json(json);
}

}  // namespace

void add_download(CLI::App& app) {
  static DownloadVerb arguments;
  auto& options = arguments.options;
  auto* command = app.add_subcommand("download", "files of a repository; prints where they are");
  command->add_option("REPO", arguments.repo, "ORG/NAME or ORG/NAME@REVISION")->required();
  command->add_option("FILES", arguments.files,
                      "these only; a name that ends with '/' is a folder; all if not given");
  command->add_option("--revision", arguments.revision, "a branch, tag or commit")
      ->type_name("REVISION");
  add_patterns(*command, "--include", options.allow_patterns,
               "only files that match one of these patterns ('*' crosses '/')");
  add_patterns(*command, "--exclude", options.ignore_patterns, "no files that match");
  command->add_option("--local-dir", arguments.local_dir, "real files in this folder, no cache")
      ->type_name("DIR");
  command->add_option("--cache-dir", arguments.cache_dir, "another cache than HF_HUB_CACHE")
      ->type_name("DIR");
  command->add_flag("--force,--force-download", options.force_download,
                    "also what is there already");
  add_offline(*command);
  add_repo_type(*command, arguments.type);
  add_common(*command, arguments.common);
  command->footer(
      "Examples:\n  pretrained download org/model\n"
      "  pretrained download org/model@v1.0 config.json model.safetensors\n"
      "  pretrained download org/data train/ --repo-type dataset --local-dir ./data\n"
      "  pretrained download org/model --include '*.safetensors' --exclude 'old/*'");
  command->callback([] { download(arguments); });
}

}  // namespace pretrained::cli
