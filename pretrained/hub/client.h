#pragma once
// A connection to one hub and everything it can be asked, spelled as huggingface_hub's HfApi does
// (https://huggingface.co/docs/huggingface_hub/package_reference/hf_api). Files move in
// download.h and upload.h; who one is, in login.h.
//
//   hub::HubClient client;                       // HF_ENDPOINT, and the token of `login`
//   client.create_repo({"org/resnet"}, {.private_ = true, .exist_ok = true});
//   for (auto& commit : client.list_commits({"org/resnet"})) …
//
// Any number of threads may use one client. Every call throws the errors of errors.h.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/base/json.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/http.h"

namespace pretrained::hub {

enum class RepoType { model, dataset, space };

struct Repo {
  std::string id;  // "org/name"
  RepoType type = RepoType::model;
};
// ArgumentError unless `id` is two names of [A-Za-z0-9._-] as the hub takes them.
PRETRAINED_API void check_repo_id(const std::string& id);
// "model", "dataset", "space" and their plurals.
PRETRAINED_API RepoType parse_repo_type(const std::string& text);
PRETRAINED_API const char* type_name(RepoType type);  // "model"
// "org/name", "org/name@revision"; nothing where the text cannot be one (a path, say).
struct RepoReference {
  std::string id, revision;  // "" where none was given
};
PRETRAINED_API std::optional<RepoReference> parse_repo_reference(const std::string& text);
PRETRAINED_API bool is_commit_hash(std::string_view text);  // 40 lower-case hex digits

struct ClientOptions {
  std::string endpoint;                            // "" : HF_ENDPOINT
  std::optional<std::string> token;                // nothing: find_token(); "": none
  bool offline = false;                            // or HF_HUB_OFFLINE
  std::function<void(const std::string&)> notice;  // HttpOptions::notice
};

struct Organization {
  std::string name, role;
};
struct Account {
  std::string name, fullname, email, token_name, token_role;
  std::vector<Organization> organizations;
};

struct RepoInfo {
  std::string id, sha, last_modified, gated, library_name, pipeline_tag;
  bool private_ = false;
  int64_t downloads = 0, likes = 0;
  std::vector<std::string> tags;
  Json json;  // all the hub said
};

struct RemoteFile {
  std::string path, oid;  // git blob id; of LFS files the pointer's
  uint64_t size = 0;
  std::string sha256;    // of LFS files, else ""
  std::string xet_hash;  // or ""
  // How the cache names its blob: sha256 of LFS files, else the git blob id.
  const std::string& etag() const { return sha256.empty() ? oid : sha256; }
};

struct CommitEntry {
  std::string oid, title, message, date;
  std::vector<std::string> authors;
};

struct GitRef {
  std::string name, ref, target;
};
struct GitRefs {
  std::vector<GitRef> branches, tags, pull_requests;
};

struct CreateRepo {
  bool private_ = false;
  bool exist_ok = false;
};

struct XetToken {
  std::string access_token, cas_url;
  int64_t expires = 0;  // Unix seconds
};

class PRETRAINED_API HubClient {
 public:
  explicit HubClient(ClientOptions options = {});
  ~HubClient();
  HubClient(HubClient&&) noexcept;

  const std::string& endpoint() const;
  const std::string& token() const;
  bool offline() const;
  HttpClient& http() const;

  Account whoami() const;

  // "name" alone lies in the token's own namespace: "me/name".
  std::string full_repo_id(const std::string& name) const;
  // Its address. Conflict where it exists and not exist_ok, or is public and private_ is wanted.
  std::string create_repo(const Repo& repo, const CreateRepo& options = {}) const;
  void delete_repo(const Repo& repo, bool missing_ok = false) const;
  void move_repo(const Repo& from, const std::string& to) const;
  void update_repo_settings(
      const Repo& repo, std::optional<bool> private_,
      std::optional<std::string> gated = {}) const;  // "auto", "manual", "false"

  RepoInfo repo_info(const Repo& repo, const std::string& revision = "main") const;
  std::vector<RepoInfo> list_repos(RepoType type, const std::string& author,
                                   const std::string& search, size_t limit = 100) const;
  // The commit that a branch, tag, "refs/pr/1" or commit id stands for, now. RevisionNotFound
  // names near matches among branches and tags; RepositoryNotFound among repositories that the
  // caller may read.
  std::string resolve_revision(const Repo& repo, const std::string& revision) const;
  // Files of a commit, sorted by path; `folder` "" for all. Paths are checked: relative, no "..".
  std::vector<RemoteFile> list_files(const Repo& repo, const std::string& commit,
                                     const std::string& folder = "") const;
  // Those of `paths` that exist.
  std::vector<RemoteFile> paths_info(const Repo& repo, const std::string& commit,
                                     const std::vector<std::string>& paths) const;

  std::vector<CommitEntry> list_commits(const Repo& repo, const std::string& revision = "main",
                                        size_t limit = 1000) const;
  GitRefs list_refs(const Repo& repo) const;
  void create_branch(const Repo& repo, const std::string& branch, const std::string& from = "main",
                     bool exist_ok = false) const;
  void delete_branch(const Repo& repo, const std::string& branch) const;
  void create_tag(const Repo& repo, const std::string& tag, const std::string& revision = "main",
                  const std::string& message = "", bool exist_ok = false) const;
  void delete_tag(const Repo& repo, const std::string& tag) const;
  // Its number: commits go to "refs/pr/N".
  int64_t create_pull_request(const Repo& repo, const std::string& title,
                              const std::string& description) const;
  // Throws FormatError with the hub's words where the front matter of a README.md is refused;
  // returns its warnings.
  std::vector<std::string> validate_card(const Repo& repo, const std::string& readme) const;

  // kind: "read" or "write".
  XetToken xet_token(const Repo& repo, const std::string& kind, const std::string& revision) const;

  // The parts of addresses: "https://hub/api/models/org/name", "https://hub/org/name".
  std::string api_url(const Repo& repo) const;
  std::string web_url(const Repo& repo) const;
  // A request to the API that answers JSON; `what` is for messages. Errors are typed. A POST whose
  // answer is lost is not sent again.
  Json get_json(const std::string& url, const std::string& what) const;
  Json send_json(const std::string& method, const std::string& url, const Json& body,
                 const std::string& what) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::hub
