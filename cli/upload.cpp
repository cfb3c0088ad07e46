#include "pretrained/hub/upload.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "hub.h"
#include "pretrained/base/error.h"
#include "terminal.h"

// Files into a repository: `pretrained upload`.

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

struct UploadVerb {
  Common common;
  std::string repo, path, path_in_repo, type = "model";
  hub::Upload options;
};

hub::CommitResult send(const hub::HubClient& client, const hub::Repo& repo,
                       const UploadVerb& arguments, const hub::OnTransfer& on_transfer) {
  hub::Upload options = arguments.options;
  options.on_transfer = on_transfer;
  options.create_repo = true;  // as `hf upload`
  bool root = arguments.path_in_repo.empty() || arguments.path_in_repo == ".";
  if (fs::is_directory(arguments.path)) {
    options.path_in_repo = root ? "" : arguments.path_in_repo;
    return hub::upload_folder(client, repo, arguments.path, options);
  }
  std::string name = root ? "" : arguments.path_in_repo;
  if (name.empty() || name.ends_with('/')) name += fs::path(arguments.path).filename().string();
  return hub::upload_file(client, repo, arguments.path, name, options);
}

void print_result(const hub::CommitResult& result, const UploadVerb& arguments,
                  const hub::Repo& repo) {
  if (arguments.common.json)
    return print_json(Json::Object{{"id", repo.id},
                                   {"oid", result.oid},
                                   {"commit_url", result.commit_url},
                                   {"pr_url", result.pr_url},
                                   {"commits", int64_t(result.commits)},
                                   {"files_uploaded", int64_t(result.files_uploaded)},
                                   {"files_unchanged", int64_t(result.files_unchanged)},
                                   {"bytes_uploaded", int64_t(result.uploaded)}});
  if (!arguments.common.quiet && result.commits == 0)
    print_line("nothing to upload: " + repo.id + " has these files already");
  std::cout << printable(result.pr_url.empty() ? result.commit_url : result.pr_url, 2000) << "\n";
}

void upload(const UploadVerb& arguments) {
  std::error_code error;
  if (!fs::exists(arguments.path, error))
    throw NotFoundError(arguments.path + ": no such file or folder");
  auto client = connect(arguments.common);
  auto repo = own_repo(client, arguments.repo, arguments.type);
  hub::CommitResult result;
  run_transfer("uploading", arguments.common, [&](const hub::OnTransfer& on_transfer) {
    result = send(client, repo, arguments, on_transfer);
  });
  print_result(result, arguments, repo);
}

}  // namespace

void add_upload(CLI::App& app) {
  static UploadVerb arguments;
  auto& options = arguments.options;
  auto* command =
      app.add_subcommand("upload", "a file or folder into a repository, which is made if need be");
  command->add_option("REPO", arguments.repo, "ORG/NAME, or NAME of one's own")->required();
  command->add_option("PATH", arguments.path, "a file or folder")->required();
  command->add_option("PATH_IN_REPO", arguments.path_in_repo,
                      "where it goes, the root if not given; a file goes below what ends with '/'");
  command->add_option("--message,--commit-message", options.commit_message, "title of the commit")
      ->type_name("TEXT");
  command
      ->add_option("--description,--commit-description", options.commit_description,
                   "what the commit's message says below its title")
      ->type_name("TEXT");
  command->add_option("--revision", options.revision, "a branch; made from main if need be")
      ->type_name("BRANCH")
      ->capture_default_str();
  command->add_flag("--create-pr", options.create_pr, "as a pull request");
  command->add_flag("--private", options.private_,
                    "the repository is made private; one that is public is an error");
  add_patterns(*command, "--include", options.allow_patterns,
               "only files that match one of these patterns ('*' crosses '/')");
  add_patterns(*command, "--exclude", options.ignore_patterns, "no files that match");
  add_patterns(*command, "--delete", options.delete_patterns,
               "files of the repository that match and are not in PATH go, in the same commit");
  command
      ->add_option("--parent-commit", options.parent_commit,
                   "fail if the branch is no longer at this commit")
      ->type_name("COMMIT");
  command->add_flag("--allow-secrets", options.allow_secrets,
                    "do not look for tokens and private keys in the files");
  add_repo_type(*command, arguments.type);
  add_common(*command, arguments.common);
  command->footer(
      "Examples:\n  pretrained upload my-model ./my-model\n"
      "  pretrained upload org/model weights.safetensors --message 'Epoch 34'\n"
      "  pretrained upload org/data ./shards train/ --repo-type dataset --exclude '*.tmp'\n"
      "  pretrained upload org/model . --delete '*.bin' --create-pr");
  command->callback([] { upload(arguments); });
}

}  // namespace pretrained::cli
