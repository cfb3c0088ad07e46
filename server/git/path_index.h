#pragma once
// The last commit of each path, kept in the database: chains of first parents and, for each, which
// paths every commit changed (tables chains, chain_commits, path_changes). A folder counts as
// changed when anything below it is. Deletions are no rows: only paths that exist are asked for.

#include <array>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "server/git/objects.h"

namespace pretrained::server {

class PathIndex {
 public:
  explicit PathIndex(Database& database) : database_(database) {}

  // Commits of the entries `names` of `folder`, which all exist in `commit`. Brings the index up to
  // `commit` first.
  std::vector<std::pair<std::string, Oid>> last_commits(int64_t repo, Objects& objects,
                                                        const Oid& commit,
                                                        const std::string& folder,
                                                        const std::vector<std::string>& names);
  // Within the transaction that publishes a commit: extends the chain of `parent` if the commit
  // continues it; otherwise leaves the work to the first question.
  static void extend(Transaction& t, int64_t repo, const Oid& commit, const Oid& parent,
                     const std::vector<std::pair<std::string, std::string>>& changed);

 private:
  struct Place {
    int64_t chain, position;
  };
  struct Step;  // a commit and what it changed
  static std::optional<Place> find(Transaction& t, int64_t repo, const Oid& commit);
  static bool append(Transaction& t, int64_t repo, const std::vector<Step>& steps,
                     const std::optional<Oid>& base);
  void bring_up_to(int64_t repo, Objects& objects, const Oid& commit);

  Database& database_;
  std::array<std::mutex, 64> mutexes_;  // by repository: one computes, others then find it done
};

}  // namespace pretrained::server
