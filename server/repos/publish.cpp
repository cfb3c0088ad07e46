// A change of content. What must hold together goes into one transaction; what can be computed
// from it again (metadata, the commits that a pull request shows) follows. A row "stale <repo>" in
// `settings` says that metadata were not read yet, so a process that dies in between loses nothing.

#include <algorithm>
#include <cstdio>

#include "server/repos/discussions.h"
#include "server/repos/repos.h"
#include "server/repos/rows.h"
#include "server/repos/webhooks.h"

namespace pretrained::server {
namespace {

constexpr const char* kMain = "refs/heads/main";
constexpr size_t kMaxNotedCommits = 100;

Json oid_or_null(const Oid& oid) { return oid == kNoOid || oid == "*" ? Json() : Json(oid); }

void queue_content_event(Transaction& t, const Repo& repo, const std::vector<RefUpdate>& updates) {
  Json::Array refs;
  Json::Object details;
  for (const auto& update : updates) {
    if (update.from == update.to) continue;
    refs.push_back(Json::Object{{"ref", update.name},
                                {"oldSha", oid_or_null(update.from)},
                                {"newSha", oid_or_null(update.to)}});
    if (update.name == kMain) details["headSha"] = oid_or_null(update.to);
  }
  details["updatedRefs"] = refs;
  queue_event(t, repo, "repo.content", "update", details);
}

bool says_something(const std::string& path) {
  return path == "README.md" || path == "config.json" || path == "tokenizer_config.json" ||
         path.ends_with(".safetensors") || path == "model.safetensors.index.json";
}

void write_metadata(Transaction& t, int64_t repo, const Oid& commit, const Metadata& metadata) {
  auto text = [](const Json& json) {
    return json.is_null() ? std::nullopt : std::optional<std::string>(json.dump(0));
  };
  std::string tags = metadata.tags.dump(0);
  int64_t written = t.run(
      "UPDATE repos SET tags = ?, pipeline_tag = ?, library_name = ?, card = ?, config = ?,"
      " weights = ?, parameters = ?, sdk = coalesce(?, sdk) WHERE id = ? AND EXISTS"
      " (SELECT 1 FROM refs WHERE repo = ? AND name = ? AND target = ?)",
      tags, metadata.pipeline_tag, metadata.library_name, text(metadata.card),
      text(metadata.config), text(metadata.weights), metadata.parameters, metadata.sdk, repo, repo,
      kMain, commit);
  if (written == 0) return;  // main has moved on; whoever moved it reads it
  t.run("UPDATE repo_search SET tags = ? WHERE rowid = ?", tags, repo);
  t.run("DELETE FROM settings WHERE name = ? AND value = ?", "stale " + std::to_string(repo),
        commit);
}

}  // namespace

void Repos::record(Transaction& t, const Repo& repo, const std::vector<RefUpdate>& updates,
                   const std::vector<std::string>& objects, uint64_t pack_bytes) {
  int64_t id = repo.access.id;
  int64_t added = int64_t(pack_bytes + content_.uncommitted_bytes(t, id, objects));
  content_.commit_objects(t, id, objects);
  t.run("UPDATE repos SET used_bytes = used_bytes + ? WHERE id = ?", added, id);
  auto owner = t.one("SELECT owner FROM repos WHERE id = ?", id);
  if (added > 0 && owner) check_quota(t, owner->integer(0));
  for (const auto& update : updates) {
    if (update.name.starts_with("refs/heads/"))
      t.run("UPDATE repos SET updated_at = ? WHERE id = ?", now_ms(), id);
    if (update.name == kMain)
      t.run("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)",
            "stale " + std::to_string(id), update.to);
  }
  queue_content_event(t, repo, updates);
}

void Repos::publish(const Caller& caller, const Repo& repo,
                    const std::vector<GitStore::Stored>& packs,
                    const std::vector<RefUpdate>& updates, const std::vector<std::string>& objects,
                    const std::function<void(Transaction&)>& also) {
  uint64_t bytes = 0;
  for (const auto& pack : packs) bytes += pack.bytes;
  git_.publish(repo.access.id, packs, updates, [&](Transaction& t) {
    record(t, repo, updates, objects, bytes);
    if (also) also(t);
  });
  after_push(caller, repo, updates);
}

void Repos::record_push(Transaction& t, const Repo& repo, const std::vector<RefUpdate>& updates,
                        const std::vector<std::string>& objects) {
  int64_t id = repo.access.id;
  // The pack may have its row by now or not: count what is there, then what comes.
  t.run(
      "UPDATE repos SET used_bytes ="
      " (SELECT coalesce(sum(bytes), 0) FROM packs WHERE repo = ?) +"
      " (SELECT coalesce(sum(o.size), 0) FROM repo_objects ro JOIN objects o"
      "  ON o.sha256 = ro.sha256 WHERE ro.repo = ? AND ro.committed = 1) WHERE id = ?",
      id, id, id);
  record(t, repo, updates, objects, 0);
}

void Repos::after_push(const Caller& caller, const Repo& repo,
                       const std::vector<RefUpdate>& updates) {
  for (const auto& update : updates) {
    try {
      if (update.name == kMain) refresh_metadata(repo, update);
      if (update.name.starts_with("refs/pr/")) note_commits(caller, repo, update);
    } catch (const std::exception& e) {
      // The change itself is durable and acknowledged.
      std::fprintf(stderr, "warning repo=%s %s: %s\n", repo.full_name().c_str(),
                   printable(update.name).c_str(), printable(e.what(), 2000).c_str());
    }
  }
}

void Repos::refresh_metadata(const Repo& repo, const RefUpdate& main) {
  if (main.to == kNoOid) return;
  auto view = git_.open(repo.access.id);
  bool known = main.from.size() == kNoOid.size() && main.from != kNoOid;
  if (known) {
    auto changed = view->changed_paths(main.from, main.to);
    if (std::none_of(changed.begin(), changed.end(), says_something)) return;
  }
  Metadata metadata = read_metadata(repo.access.type, *view, main.to, content_, repo.access.id);
  database_.write([&](Transaction& t) { write_metadata(t, repo.access.id, main.to, metadata); });
}

void Repos::refresh_stale() {
  auto stale = database_.read([](Transaction& t) {
    return t.query(
        "SELECT r.id, s.value FROM settings s JOIN repos r ON s.name = 'stale ' || r.id");
  });
  for (const auto& row : stale) {
    auto repo = find(row.integer(0));
    if (!repo) continue;
    after_push({}, *repo, {{kMain, "*", row.text(1)}});
  }
}

void Repos::note_commits(const Caller& caller, const Repo& repo, const RefUpdate& pull_request) {
  int64_t num = 0;
  for (char c : pull_request.name.substr(std::string("refs/pr/").size())) {
    if (c < '0' || c > '9' || num > 1'000'000'000) return;
    num = num * 10 + (c - '0');
  }
  if (pull_request.to == kNoOid) return;
  auto view = git_.open(repo.access.id);
  Oid stop = pull_request.from;
  if (stop == kNoOid || stop == "*") {
    auto main = git_.resolve(repo.access.id, kMain);
    stop = main ? view->merge_base(*main, pull_request.to).value_or(kNoOid) : kNoOid;
  }
  std::vector<CommitInfo> commits;
  view->log(pull_request.to, [&](const CommitInfo& commit) {
    if (commit.oid == stop || commits.size() == kMaxNotedCommits) return false;
    commits.push_back(commit);
    return true;
  });
  database_.write([&](Transaction& t) {
    if (!t.one("SELECT 1 FROM discussions WHERE repo = ? AND num = ?", repo.access.id, num)) return;
    for (auto commit = commits.rbegin(); commit != commits.rend(); ++commit)
      add_event(t, repo, num, "commit", caller,
                Json::Object{{"subject", commit->title}, {"oid", commit->oid}});
  });
}

}  // namespace pretrained::server
