#include "pretrained/hub/upload.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "pretrained/hub/commit.h"
#include "pretrained/hub/download.h"
#include "pretrained/hub/lfs_upload.h"
#include "pretrained/hub/preupload.h"
#include "pretrained/hub/send_pool.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/xet_upload.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kRegularBytes = 100 << 20;  // of one commit
constexpr uint64_t kCardBytes = 16 << 20;

class Uploader {
 public:
  Uploader(const HubClient& client, const Repo& repo, const Upload& options)
      : client_(client),
        repo_(repo),
        options_(options),
        revision_(options.revision.empty() ? "main" : options.revision),
        progress_(options.on_transfer) {
    check_repo_id(repo.id);
  }

  // Files to add, and which of the repository's to remove once they are known.
  CommitResult run(
      std::vector<LocalFile> files,
      const std::function<std::vector<std::string>(const std::string& head)>& deletions,
      const std::string& message) {
    if (!options_.allow_secrets) refuse_secrets(files);
    check_card(files);
    if (options_.create_repo) make_repo();
    find_parent();
    plan(std::move(files));
    std::vector<std::string> deleted = deletions ? deletions(parent_) : std::vector<std::string>();
    result_.oid = parent_;
    result_.commit_url = client_.web_url(repo_) + "/commit/" + parent_;
    auto parts = split();
    if (parts.empty() && !deleted.empty()) parts.emplace_back();
    set_message(message);
    if (options_.create_pr && !parts.empty()) open_pull_request();
    for (size_t i = 0; i < parts.size(); ++i) {
      std::string suffix =
          parts.size() > 1 ? " (part " + std::to_string(i + 1) + ")" : std::string();
      bool last = i + 1 == parts.size();
      commit(parts[i], suffix, last ? std::move(deleted) : std::vector<std::string>());
    }
    result_.uploaded = progress_.wire_bytes();
    return std::move(result_);
  }

 private:
  void refuse_secrets(const std::vector<LocalFile>& files) {
    std::vector<std::string> found;
    for (auto& file : files) {
      auto alive = [&] { progress_.progress(file.path, 0, file.size); };
      for (auto& line : find_secrets(file.file, file.path, alive)) found.push_back(line);
    }
    if (found.empty()) return;
    std::string more =
        found.size() > 1 ? ", and " + std::to_string(found.size() - 1) + " more" : "";
    throw SecretFound(found[0] + more +
                      "; nothing was uploaded: remove it, leave the file out, or say "
                      "allow_secrets = true (--allow-secrets)");
  }

  void check_card(const std::vector<LocalFile>& files) {
    auto card = std::ranges::find(files, "README.md", &LocalFile::path);
    if (card == files.end()) return;
    if (card->size > kCardBytes)
      throw FormatError("README.md: longer than " + std::to_string(kCardBytes) + " bytes");
    for (auto& warning : client_.validate_card(repo_, SourceFile(*card).read_whole()))
      progress_.notice("warning: README.md: " + warning);
  }

  // Only asked for where it seems not to be there: who may write may not always create.
  void make_repo() {
    bool there = true;
    try {
      client_.get_json(client_.api_url(repo_), repo_.id);
    } catch (const RepositoryNotFound&) {
      there = false;
    }
    if (there && !options_.private_) return;
    client_.create_repo(repo_, {.private_ = options_.private_, .exist_ok = true});
    if (!there) progress_.notice("made the " + std::string(type_name(repo_.type)) + " " + repo_.id);
  }

  // A branch that is not there is made; an empty repository has no parent.
  void find_parent() {
    try {
      parent_ = client_.resolve_revision(repo_, revision_);
    } catch (const RevisionNotFound&) {
      bool can_be_made = !revision_.starts_with("refs/") && !is_commit_hash(revision_) &&
                         !options_.create_pr && options_.parent_commit.empty();
      if (revision_ != "main") {
        if (!can_be_made) throw;
        client_.create_branch(repo_, revision_, "main", true);
        parent_ = client_.resolve_revision(repo_, revision_);
      }
    }
    const auto& wanted = options_.parent_commit;
    if (!wanted.empty() && (wanted.size() < 7 || !parent_.starts_with(wanted)))
      throw Conflict(repo_.id + "@" + revision_ + " is at " + parent_ + ", not at " +
                     printable(wanted) + ": read it again and repeat");
  }

  // Asks how each file goes, and drops what is there already.
  void plan(std::vector<LocalFile> files) {
    uint64_t bytes = 0;
    for (auto& file : files) bytes += file.size;
    progress_.planned(files.size(), bytes);
    auto modes = preupload(client_, repo_, revision_, options_.create_pr, files, progress_);
    std::vector<std::string> hashes(files.size());
    {
      SendPool pool(workers(), SIZE_MAX);
      for (size_t i = 0; i < files.size(); ++i)
        if (!modes[i].ignored && !modes[i].oid.empty())
          pool.submit([&, i] { hashes[i] = hash(files[i], modes[i].oid); });
      pool.wait();
    }
    for (size_t i = 0; i < files.size(); ++i) {
      auto& [is_large, ignored, oid] = modes[i];
      bool unchanged = !ignored && !oid.empty() && hashes[i] == oid;
      if (unchanged) ++result_.files_unchanged;
      if (ignored || unchanged)
        progress_.finished(files[i].path, files[i].size, ignored ? "ignored" : "unchanged");
      else
        files_.push_back({std::move(files[i]), is_large, oid.size() == 64 ? hashes[i] : ""});
    }
  }

  std::string hash(const LocalFile& file, const std::string& oid) {
    return hash_source(SourceFile(file), oid, [&] { progress_.progress(file.path, 0, file.size); });
  }

  std::vector<std::vector<CommitFile>> split() {
    std::vector<std::vector<CommitFile>> parts;
    uint64_t regular = 0;
    for (auto& file : files_) {
      uint64_t size = file.is_large ? 0 : file.local.size;
      if (size > kRegularBytes)
        throw HubError(file.local.path + ": the hub wants " + std::to_string(size) +
                           " bytes inside the commit, which takes " +
                           std::to_string(kRegularBytes) + " at most",
                       0);
      bool full = parts.empty() ||
                  parts.back().size() >= std::max<size_t>(options_.files_per_commit, 1) ||
                  regular + size > kRegularBytes;
      if (full) {
        parts.emplace_back();
        regular = 0;
      }
      regular += size;
      parts.back().push_back(std::move(file));
    }
    return parts;
  }

  // The first line is the title, as git has it.
  void set_message(const std::string& message) {
    summary_ = options_.commit_message.empty() ? message : options_.commit_message;
    description_ = options_.commit_description;
    size_t end = summary_.find('\n');
    if (end == summary_.npos) return;
    size_t rest = std::min(summary_.find_first_not_of('\n', end), summary_.size());
    description_ = summary_.substr(rest) + (description_.empty() ? "" : "\n\n") + description_;
    summary_.resize(end);
  }

  void open_pull_request() {
    int64_t number = client_.create_pull_request(repo_, summary_, description_);
    revision_ = "refs/pr/" + std::to_string(number);
    result_.pr_url = client_.web_url(repo_) + "/discussions/" + std::to_string(number);
    parent_ = client_.resolve_revision(repo_, revision_);
  }

  void commit(std::vector<CommitFile>& files, const std::string& suffix,
              std::vector<std::string> deleted) {
    store_large(files);
    CommitContent content{.summary = summary_ + suffix,
                          .description = description_,
                          .parent = parent_,
                          .files = std::move(files),
                          .deleted = std::move(deleted)};
    auto answer = send_commit(client_, repo_, revision_, content, progress_);
    for (auto& file : content.files)
      if (!file.is_large) progress_.finished(file.local.path, file.local.size, "uploaded");
    if (answer.oid != parent_) ++result_.commits;
    result_.files_uploaded += content.files.size();
    result_.oid = parent_ = answer.oid;
    result_.commit_url = answer.url;
  }

  void store_large(std::vector<CommitFile>& files) {
    std::vector<CommitFile*> large;
    for (auto& file : files)
      if (file.is_large) large.push_back(&file);
    if (large.empty()) return;
    if (!open_xet()) return lfs_upload(client_, repo_, revision_, large, workers(), progress_);
    for (auto* file : large) file->sha256 = xet_->add(file->local);
    xet_->finish();
  }

  // False where the user or the hub has no Xet.
  bool open_xet() {
    if (!options_.xet || no_xet_ || is_true("HF_HUB_DISABLE_XET")) return false;
    if (xet_) return true;
    try {
      store_.emplace(client_, repo_, revision_);
    } catch (const RepositoryNotFound&) {
      throw;
    } catch (const RevisionNotFound&) {
      throw;
    } catch (const NotFoundError&) {
      no_xet_ = true;
      progress_.notice("the hub has no Xet store: files go whole, through LFS");
      return false;
    }
    xet_.emplace(client_, repo_, *store_, progress_);
    return true;
  }

  int workers() const { return std::clamp(options_.max_workers, 1, 64); }

  const HubClient& client_;
  const Repo& repo_;
  const Upload& options_;
  std::string revision_, parent_, summary_, description_;
  UploadProgress progress_;
  std::vector<CommitFile> files_;
  CommitResult result_;
  bool no_xet_ = false;
  std::optional<XetStore> store_;
  std::optional<XetUpload> xet_;
};

std::string joined(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "/" + name;
}

}  // namespace

CommitResult upload_folder(const HubClient& client, const Repo& repo, const fs::path& folder,
                           const Upload& options) {
  if (fs::is_regular_file(folder)) {
    bool inside = options.path_in_repo.empty() || options.path_in_repo.ends_with('/');
    std::string name = folder.filename();
    return upload_file(
        client, repo, folder,
        inside ? joined(normal_repo_path(options.path_in_repo), name) : options.path_in_repo,
        options);
  }
  std::string in_repo = normal_repo_path(options.path_in_repo);
  auto files = list_folder(folder, options.allow_patterns, options.ignore_patterns);
  for (auto& file : files) file.path = joined(in_repo, file.path);
  auto deletions = [&](const std::string& head) {
    std::vector<std::string> paths;
    if (options.delete_patterns.empty() || head.empty()) return paths;
    for (auto& remote : client.list_files(repo, head, in_repo)) {
      std::string name = remote.path.substr(in_repo.empty() ? 0 : in_repo.size() + 1);
      if (matches_any(name, options.delete_patterns) && !fs::exists(folder / name))
        paths.push_back(remote.path);
    }
    return paths;
  };
  return Uploader(client, repo, options)
      .run(std::move(files), deletions, "Upload folder using pretrained");
}

CommitResult upload_file(const HubClient& client, const Repo& repo, const fs::path& file,
                         const std::string& path_in_repo, const Upload& options) {
  std::string path = normal_repo_path(path_in_repo);
  check_repo_path(path);
  return Uploader(client, repo, options)
      .run({local_file(file, path)}, {}, "Upload " + path + " using pretrained");
}

CommitResult delete_files(const HubClient& client, const Repo& repo,
                          const std::vector<std::string>& patterns, const Upload& options) {
  auto deletions = [&](const std::string& head) {
    std::vector<std::string> paths;
    for (auto& remote : client.list_files(repo, head))
      if (matches_any(remote.path, patterns)) paths.push_back(remote.path);
    if (paths.empty())
      throw EntryNotFound(repo.id + "@" + options.revision + ": no file matches " +
                          printable(patterns.empty() ? "" : patterns[0]));
    return paths;
  };
  return Uploader(client, repo, options).run({}, deletions, "Delete files using pretrained");
}

}  // namespace pretrained::hub
