#pragma once
// Discussions and pull requests. A pull request N is a discussion with the reference refs/pr/N; it
// starts as a draft or open, and ends closed or merged. Who may do what is the caller's business.
// May be called from any thread.

#include <optional>
#include <string>
#include <vector>

#include "server/repos/repos.h"

namespace pretrained::server {

struct Discussion {
  int64_t num = 0;
  std::string title, author, status;  // "draft", "open", "closed", "merged"
  std::optional<int64_t> author_id;   // none: nobody, or an account that is gone
  bool is_pull_request = false;
  std::string base;  // "refs/heads/main"; of pull requests
  std::optional<std::string> merge_commit;
  int64_t created_at = 0;
  std::string ref() const { return "refs/pr/" + std::to_string(num); }
};

struct DiscussionEvent {
  std::string id, type, author;  // "comment", "status-change", "commit", "title-change"
  std::optional<int64_t> author_id;
  Json data;  // as the API shows it
  int64_t created_at = 0;
};

struct DiscussionQuery {
  std::optional<bool> pull_requests;
  std::optional<std::string> status, author;  // status "open" means drafts too
  int64_t offset = 0, limit = 25;
};

// What a new pull request's reference points at: the packs' commit. Without packs, `head`.
struct PullRequestContent {
  std::vector<GitStore::Stored> packs;
  Oid head;
  std::vector<std::string> objects;
};

class Discussions {
 public:
  Discussions(Database& database, GitStore& git, Repos& repos)
      : database_(database), git_(git), repos_(repos) {}

  std::optional<Discussion> find(const Repo& repo, int64_t num);
  std::vector<Discussion> list(const Repo& repo, const DiscussionQuery& query, int64_t& total);
  std::vector<DiscussionEvent> events(const Repo& repo, int64_t num);
  std::optional<DiscussionEvent> event(const Repo& repo, int64_t num, const std::string& id);

  // ArgumentError for a title that is empty or longer than 250 bytes, or a text beyond 64 KiB.
  Discussion open(const Caller& caller, const Repo& repo, const std::string& title,
                  const std::string& description);
  // Once it throws, the packs are gone: make them again.
  Discussion open_pull_request(const Caller& caller, const Repo& repo, const std::string& title,
                               const std::string& description, bool draft,
                               const PullRequestContent& content,
                               const std::string& base = "refs/heads/main");

  DiscussionEvent comment(const Caller& caller, const Repo& repo, const Discussion& discussion,
                          const std::string& text);
  // NotFoundError where the event is no comment, ConflictError where it is hidden.
  DiscussionEvent edit(const Repo& repo, const Discussion& discussion, const std::string& event,
                       const std::string& text);
  DiscussionEvent hide(const Caller& caller, const Repo& repo, const Discussion& discussion,
                       const std::string& event);  // its text is gone for good
  DiscussionEvent rename(const Caller& caller, const Repo& repo, const Discussion& discussion,
                         const std::string& title);
  // "open" or "closed". ConflictError for what is merged.
  DiscussionEvent set_status(const Caller& caller, const Repo& repo, const Discussion& discussion,
                             const std::string& status, const std::string& comment = "");

  // Paths that stand in the way of a merge, and what it would change.
  std::vector<std::string> conflicts(const Repo& repo, const Discussion& pull_request);
  std::string diff(const Repo& repo, const Discussion& pull_request);
  // A merge commit on the base. ConflictError names the paths in conflict, or that the pull request
  // is not open; ArgumentError where there is nothing to merge; RefConflict where the base moved.
  Oid merge(const Caller& caller, const Repo& repo, const Discussion& pull_request,
            const std::string& comment = "");

 private:
  Database& database_;
  GitStore& git_;
  Repos& repos_;
};

// Appends to a discussion inside a transaction.
DiscussionEvent add_event(Transaction& transaction, const Repo& repo, int64_t num,
                          const std::string& type, const Caller& author, const Json& data);

}  // namespace pretrained::server
