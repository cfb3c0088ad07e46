#pragma once
// Repositories as the API knows them: names, visibility, lists and search, what their files say of
// them (README front matter, config.json, safetensors headers), and the flow of a change of
// content: checks → packs → references, objects and metadata in one transaction → webhooks. May be
// called from any thread.

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "pretrained/base/json.h"
#include "server/accounts/accounts.h"
#include "server/cas/content_store.h"
#include "server/git/git_store.h"

namespace pretrained::server {

struct Repo {
  RepoAccess access;  // id, owner, type, names, visibility
  std::string uid;
  int64_t generation = 0, used_bytes = 0, downloads = 0, likes = 0, created_at = 0, updated_at = 0;
  Json tags = Json::Array{};
  std::optional<std::string> pipeline_tag, library_name, sdk;
  Json card, config, weights;  // null where the files say nothing
  std::string full_name() const { return access.owner_name + "/" + access.name; }
};

// Whom commits name: the account, never its mail address.
Person commit_author(const Caller& caller);
// 1–96 of [A-Za-z0-9._-], no "--" or "..", no "-" or "." at an end, no ".git" at the end, and
// "owner/name" at most 96; ArgumentError.
void check_repo_name(const std::string& owner, const std::string& name);

// What the files of one commit say: README.md's front matter, config.json, the weights' headers.
// Files that break their format say nothing: a push is never refused for them.
struct Metadata {
  Json tags = Json::Array{};
  std::optional<std::string> pipeline_tag, library_name, sdk;
  Json card, config, weights;
  std::optional<int64_t> parameters;
};
Metadata read_metadata(const std::string& type, GitView& view, const Oid& commit,
                       ContentStore& content, int64_t repo);
// The headers of the files that a safetensors index names, as JSON {"index": {"metadata": …},
// "headers": {file: header}}. NotFoundError without the index; FormatError, beyond 32 MiB too.
std::string read_safetensors_headers(const std::string& index, GitView& view, const Oid& commit,
                                     ContentStore& content, int64_t repo);

// The YAML between the "---" lines at the top of a model card, as JSON, plain scalars read as
// PyYAML does (dates stay text); null where there is none. FormatError with line and column.
// Duplicate keys are an error, so is what is no UTF-8 or a control character, and so is more than 1
// MiB, 32 levels or 100,000 values, aliases counted as what they stand for.
Json parse_front_matter(std::string_view readme, const std::string& source);
// What validate-yaml answers: messages, empty when sound.
struct CardProblems {
  std::vector<std::string> errors, warnings;
};
CardProblems check_card(std::string_view readme, const std::string& type);

struct ListQuery {
  std::string type = "model";
  std::optional<std::string> author, search, pipeline_tag;
  std::vector<std::string> filters;           // tags, all of them
  std::vector<std::string> models, datasets;  // that cards of spaces name, all of them
  bool linked = false;                        // spaces whose card names any of either
  std::optional<std::string> gated;
  std::optional<int64_t> min_parameters, max_parameters;
  std::string sort = "trendingScore";  // lastModified, createdAt, downloads, likes
  bool descending = true;
  int64_t limit = 1000;
  std::string cursor;  // of the page before
};

class Repos {
 public:
  Repos(Database& database, Accounts& accounts, GitStore& git, ContentStore& content)
      : database_(database), accounts_(accounts), git_(git), content_(content) {}
  ~Repos();  // writes the downloads that it still counts in memory

  // Exact name, current or, with `follow_moves`, a former one or one in other case.
  std::optional<Repo> find(const std::string& type, const std::string& owner,
                           const std::string& name, bool follow_moves = false);
  std::optional<Repo> find(int64_t id);
  // With its first commit on main: .gitattributes with the usual LFS patterns, and `files`.
  // ArgumentError, ConflictError. Nobody sees it before it is whole.
  Repo create(const Caller& caller, const std::string& type, const Account& owner,
              const std::string& name, bool is_private, std::optional<std::string> sdk = {},
              const std::vector<FileChange>& files = {});
  void remove(const Repo& repo);
  // ConflictError where the new name is taken, QuotaExceeded of the new owner. The old one
  // redirects.
  void move(const Repo& repo, const Account& new_owner, const std::string& new_name);
  void set_visibility(const Repo& repo, bool is_private);
  void set_gated(const Repo& repo, const std::string& gated);  // "", "auto", "manual"
  // Only repositories that the caller may see. `next` is the cursor of the page that follows.
  std::vector<Repo> list(const Caller& caller, const ListQuery& query, std::string& next);
  bool access_granted(const Repo& repo, const Caller& caller);

  // One change of content by HTTP: packs, references, objects (now the repository's), the owner's
  // quota (QuotaExceeded), webhooks and what `also` does, all or nothing. Then what lists show is
  // read from the new main, and pull requests note their new commits.
  void publish(const Caller& caller, const Repo& repo, const std::vector<GitStore::Stored>& packs,
               const std::vector<RefUpdate>& updates, const std::vector<std::string>& objects,
               const std::function<void(Transaction&)>& also = {});
  // The same for a push, whose references git moves. record_push() goes into PushCheck::also;
  // after_push() follows receive_pack(), with the updates that were accepted.
  void record_push(Transaction& transaction, const Repo& repo,
                   const std::vector<RefUpdate>& updates, const std::vector<std::string>& objects);
  void after_push(const Caller& caller, const Repo& repo, const std::vector<RefUpdate>& updates);
  // Reads metadata that a process which died had not read yet; for upkeep.
  void refresh_stale();
  // Counted in memory, written at most once a second.
  void count_download(const Repo& repo);

 private:
  void record(Transaction& transaction, const Repo& repo, const std::vector<RefUpdate>& updates,
              const std::vector<std::string>& objects, uint64_t pack_bytes);
  void refresh_metadata(const Repo& repo, const RefUpdate& main);
  void note_commits(const Caller& caller, const Repo& repo, const RefUpdate& pull_request);
  void write_downloads();
  Database& database_;
  Accounts& accounts_;
  GitStore& git_;
  ContentStore& content_;
  std::mutex downloads_mutex_;
  std::map<int64_t, int64_t> downloads_;
  int64_t downloads_written_at_ = 0;
};

class QuotaExceeded : public Error {
 public:
  using Error::Error;
};

}  // namespace pretrained::server
