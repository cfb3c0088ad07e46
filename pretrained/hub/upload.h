#pragma once
// Files into a repository, as commits.
//
// Large files go through Xet where the hub offers it (only chunks that it lacks are sent), else
// through LFS; small ones in the commit. Files that the repository has already are not sent, and
// where nothing changes there is no commit. The parent commit is named, so that a change made by
// somebody else meanwhile is a Conflict and not lost. Thousands of files go as several commits,
// each of at most `files_per_commit`. What an interrupted upload had stored is not sent again.
// Mirrors https://huggingface.co/docs/huggingface_hub/package_reference/hf_api (upload_folder).

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "pretrained/hub/client.h"
#include "pretrained/hub/transfer.h"

namespace pretrained::hub {

struct Upload {
  std::string path_in_repo;  // folder of the repository; "" is its root
  std::string commit_message, commit_description;
  std::string revision = "main";  // a branch; made from main where there is none
  bool create_pr = false;
  std::string parent_commit;  // "": the branch's head when the upload began
  // Makes the repository if need be, once the files were checked; as create_repo() with exist_ok.
  bool create_repo = false, private_ = false;
  // Of the folder's files, as in download.h. .git, .cache/huggingface and our own temporary files
  // never go.
  std::vector<std::string> allow_patterns, ignore_patterns;
  // Files of the repository below path_in_repo that are not in the folder and match: removed in the
  // same commit.
  std::vector<std::string> delete_patterns;
  size_t files_per_commit = 1000;
  bool allow_secrets = false;  // do not look for tokens and private keys
  bool xet = true;             // HF_HUB_DISABLE_XET=1 does the same as false
  int max_workers = 8;
  OnTransfer on_transfer;
};

struct CommitResult {
  std::string commit_url, oid;  // of the last commit; the branch's head where nothing changed
  std::string pr_url;           // with create_pr
  size_t commits = 0, files_uploaded = 0, files_unchanged = 0;
  uint64_t uploaded = 0;  // bytes over the wire
};

// A folder, or a single file. SecretFound, Conflict, FormatError (model card), NotFoundError.
PRETRAINED_API CommitResult upload_folder(const HubClient& client, const Repo& repo,
                                          const std::filesystem::path& folder,
                                          const Upload& options = {});
PRETRAINED_API CommitResult upload_file(const HubClient& client, const Repo& repo,
                                        const std::filesystem::path& file,
                                        const std::string& path_in_repo,
                                        const Upload& options = {});

// Removes files (patterns; "dir/" for folders) in one commit.
PRETRAINED_API CommitResult delete_files(const HubClient& client, const Repo& repo,
                                         const std::vector<std::string>& patterns,
                                         const Upload& options = {});

// What looks like a credential: "config.json: line 3: an access token of a hub (hf_…)"; never the
// secret itself. Text of any size is read, in pieces; `on_piece` is called after each and throws to
// stop. A file with a zero among its first 8192 bytes is no text.
PRETRAINED_API std::vector<std::string> find_secrets(const std::filesystem::path& file,
                                                     const std::string& name,
                                                     const std::function<void()>& on_piece = {});

}  // namespace pretrained::hub
