#pragma once
// Repositories as the API knows them: names, visibility, lists and search, what their files say of
// them (README front matter, config.json, safetensors headers), and the flow of a change of
// content: checks → packs → references, objects and metadata in one transaction → webhooks. May be
// called from any thread.

#include <cstdint>
#include <functional>
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

// What the files of one commit say: README.md's front matter, config.json, the weights' headers.
struct Metadata {
  Json tags = Json::Array{};
  std::optional<std::string> pipeline_tag, library_name, sdk;
  Json card, config, weights;
  std::optional<int64_t> parameters;
};
Metadata read_metadata(const std::string& type, GitView& view, const Oid& commit,
                       ContentStore& content, int64_t repo);

// The YAML between the "---" lines at the top of a model card, as JSON; null where there is none.
// FormatError with line and column. Duplicate keys are an error.
Json parse_front_matter(std::string_view readme, const std::string& source);
// What validate-yaml answers: messages, empty when sound.
struct CardProblems {
  std::vector<std::string> errors, warnings;
};
CardProblems check_card(std::string_view readme, const std::string& type);

struct ListQuery {
  std::string type = "model";
  std::optional<std::string> author, search, pipeline_tag;
  std::vector<std::string> filters;  // tags, all of them
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

  // Exact name, current or, with `follow_moves`, a former one.
  std::optional<Repo> find(const std::string& type, const std::string& owner,
                           const std::string& name, bool follow_moves = false);
  std::optional<Repo> find(int64_t id);
  // With its first commit: .gitattributes with the usual LFS patterns on main. ArgumentError,
  // ConflictError.
  Repo create(const Caller& caller, const std::string& type, const Account& owner,
              const std::string& name, bool is_private, std::optional<std::string> sdk = {});
  void remove(const Repo& repo);
  // ConflictError where the new name is taken. The old one redirects.
  void move(const Repo& repo, const Account& new_owner, const std::string& new_name);
  void set_visibility(const Repo& repo, bool is_private);
  void set_gated(const Repo& repo, const std::string& gated);
  // Only repositories that the caller may see. `next` is the cursor of the page that follows.
  std::vector<Repo> list(const Caller& caller, const ListQuery& query, std::string& next);
  bool access_granted(const Repo& repo, const Caller& caller);

  // One change of content by HTTP or git: publishes, marks objects committed, refreshes metadata
  // when main moved, counts bytes against the owner's quota (HttpError-free: QuotaExceeded), queues
  // webhooks and repacking.
  void publish(const Caller& caller, const Repo& repo, const std::vector<GitStore::Stored>& packs,
               const std::vector<RefUpdate>& updates, const std::vector<std::string>& objects,
               const std::function<void(Transaction&)>& also = {});
  // For pushes: the same as transaction part, given accepted updates.
  void after_push(const Caller& caller, const Repo& repo, const std::vector<RefUpdate>& updates);
  void count_download(const Repo& repo);

 private:
  Database& database_;
  Accounts& accounts_;
  GitStore& git_;
  ContentStore& content_;
};

class QuotaExceeded : public Error {
 public:
  using Error::Error;
};

}  // namespace pretrained::server
