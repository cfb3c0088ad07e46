#include "server/git/path_index.h"

#include <algorithm>
#include <map>

namespace pretrained::server {
namespace {

constexpr size_t kBatchCommits = 256, kBatchPaths = 20'000;

using Paths = std::vector<std::pair<std::string, std::string>>;

// (folder, name) of what `commit` added or changed against its first parent.
Paths changed_entries(Objects& objects, const git_oid& commit,
                      const std::optional<git_oid>& parent) {
  Paths changed;
  git_oid before = parent ? objects.tree_of(*parent) : git_oid{};
  compare_trees(objects, before, objects.tree_of(commit), [&](const TreeChange& change) {
    if (change.after) changed.emplace_back(change.folder, change.name);
    return change.after != nullptr;
  });
  return changed;
}

std::optional<Oid> first_parent(Objects& objects, const Oid& commit) {
  auto info = objects.commit(from_hex(commit));
  if (!info) throw NotFoundError("commit " + commit + ": not in the repository");
  return info->parents.empty() ? std::nullopt : std::optional<Oid>(info->parents[0]);
}

}  // namespace

struct PathIndex::Step {
  Oid commit;
  Paths changed;
};

std::optional<PathIndex::Place> PathIndex::find(Transaction& t, int64_t repo, const Oid& commit) {
  auto row =
      t.one("SELECT chain, position FROM chain_commits WHERE repo = ? AND oid = ?", repo, commit);
  if (!row) return std::nullopt;
  return Place{row->integer(0), row->integer(1)};
}

// Adds commits that follow `base` (none: a root). False: somebody else has added the first of them.
bool PathIndex::append(Transaction& t, int64_t repo, const std::vector<Step>& steps,
                       const std::optional<Oid>& base) {
  if (find(t, repo, steps.front().commit)) return false;
  std::optional<Place> place = base ? find(t, repo, *base) : std::nullopt;
  if (base && !place) return false;
  bool at_end = place && !t.one("SELECT 1 FROM chain_commits WHERE chain = ? AND position = ?",
                                place->chain, place->position + 1);
  if (!at_end) {
    t.run("INSERT INTO chains (repo, parent, parent_position) VALUES (?, ?, ?)", repo,
          place ? std::optional<int64_t>(place->chain) : std::nullopt,
          place ? std::optional<int64_t>(place->position) : std::nullopt);
    place = Place{t.last_id(), -1};
  }
  for (auto& step : steps) {
    ++place->position;
    t.run("INSERT INTO chain_commits (repo, oid, chain, position) VALUES (?, ?, ?, ?)", repo,
          step.commit, place->chain, place->position);
    for (auto& [folder, name] : step.changed)
      t.run("INSERT INTO path_changes (repo, folder, name, chain, position) VALUES (?, ?, ?, ?, ?)",
            repo, folder, name, place->chain, place->position);
  }
  return true;
}

void PathIndex::extend(Transaction& t, int64_t repo, const Oid& commit, const Oid& parent,
                       const Paths& changed) {
  append(t, repo, {{commit, changed}}, parent.empty() ? std::nullopt : std::optional<Oid>(parent));
}

void PathIndex::bring_up_to(int64_t repo, Objects& objects, const Oid& commit) {
  auto known = [&](const Oid& oid) {
    return database_.read([&](Transaction& t) { return find(t, repo, oid).has_value(); });
  };
  if (known(commit)) return;
  std::lock_guard guard(mutexes_[size_t(repo) % mutexes_.size()]);
  std::vector<Oid> missing;  // newest first
  std::optional<Oid> base = commit;
  while (base && !known(*base)) {
    missing.push_back(*base);
    base = first_parent(objects, *base);
  }
  while (!missing.empty()) {
    std::vector<Step> steps;
    std::optional<Oid> parent = base;
    size_t paths = 0;
    while (!missing.empty() && steps.size() < kBatchCommits && paths < kBatchPaths) {
      std::optional<git_oid> before;
      if (parent) before = from_hex(*parent);
      steps.push_back({missing.back(), changed_entries(objects, from_hex(missing.back()), before)});
      paths += steps.back().changed.size();
      parent = missing.back();
      missing.pop_back();
    }
    // Another process that was faster has made the same rows, or will be found by the next one.
    database_.write([&](Transaction& t) {
      for (auto rest = steps; !rest.empty() && !append(t, repo, rest, base);) {
        base = rest.front().commit;
        rest.erase(rest.begin());
      }
    });
    base = parent;
  }
}

std::vector<std::pair<std::string, Oid>> PathIndex::last_commits(
    int64_t repo, Objects& objects, const Oid& commit, const std::string& folder,
    const std::vector<std::string>& names) {
  bring_up_to(repo, objects, commit);
  return database_.read([&](Transaction& t) {
    std::vector<std::pair<std::string, Oid>> found;
    std::vector<std::string> wanted = names;
    std::map<std::pair<int64_t, int64_t>, Oid> commits;
    std::optional<Place> place = find(t, repo, commit);
    while (place && !wanted.empty()) {
      std::erase_if(wanted, [&](const std::string& name) {
        auto row = t.one(
            "SELECT position FROM path_changes WHERE repo = ? AND folder = ? AND name = ? AND "
            "chain = ? AND position <= ? ORDER BY position DESC LIMIT 1",
            repo, folder, name, place->chain, place->position);
        if (!row) return false;
        Oid& oid = commits[{place->chain, row->integer(0)}];
        if (oid.empty())
          oid = t.one("SELECT oid FROM chain_commits WHERE chain = ? AND position = ?",
                      place->chain, row->integer(0))
                    ->text(0);
        found.emplace_back(name, oid);
        return true;
      });
      auto row = t.one("SELECT parent, parent_position FROM chains WHERE id = ?", place->chain);
      if (!row || row->null(0)) break;
      place = Place{row->integer(0), row->integer(1)};
    }
    return found;
  });
}

}  // namespace pretrained::server
