#include "server/repos/repos.h"

#include <algorithm>

#include "server/repos/rows.h"
#include "server/repos/webhooks.h"

namespace pretrained::server {
namespace {

constexpr int64_t kGiveUpMaking = 10 * 60 * 1000;
constexpr size_t kMaxName = 96;

constexpr const char* kLfsPatterns[] = {"*.7z",          "*.arrow",
                                        "*.bin",         "*.bz2",
                                        "*.ckpt",        "*.ftz",
                                        "*.gz",          "*.h5",
                                        "*.joblib",      "*.lfs.*",
                                        "*.mlmodel",     "*.model",
                                        "*.msgpack",     "*.npy",
                                        "*.npz",         "*.onnx",
                                        "*.ot",          "*.parquet",
                                        "*.pb",          "*.pickle",
                                        "*.pkl",         "*.pt",
                                        "*.pth",         "*.rar",
                                        "*.safetensors", "saved_model/**/*",
                                        "*.tar.*",       "*.tar",
                                        "*.tflite",      "*.tgz",
                                        "*.wasm",        "*.xz",
                                        "*.zip",         "*.zst",
                                        "*tfevents*"};

std::string git_attributes() {
  std::string text;
  for (const char* pattern : kLfsPatterns)
    text += std::string(pattern) + " filter=lfs diff=lfs merge=lfs -text\n";
  return text;
}

Json parse_column(const std::optional<std::string>& text, const char* column) {
  return text ? Json::parse(*text, column) : Json();
}

void check_type(const std::string& type) {
  if (!is_repo_type(type))
    throw ArgumentError("repository type '" + printable(type) + "': expected " + kRepoTypes);
}

}  // namespace

void check_quota(Transaction& t, int64_t account, uint64_t more) {
  auto row = t.one(
      "SELECT name, quota_bytes,"
      " (SELECT coalesce(sum(used_bytes), 0) FROM repos WHERE owner = accounts.id) +"
      " (SELECT coalesce(sum(bytes), 0) FROM attachments WHERE user = accounts.id)"
      " FROM accounts WHERE id = ? AND quota_bytes IS NOT NULL",
      account);
  if (!row || row->integer(2) + int64_t(more) <= row->integer(1)) return;
  throw QuotaExceeded(row->text(0) + " may hold " + std::to_string(row->integer(1)) +
                      " bytes; with this change it would hold " +
                      std::to_string(row->integer(2) + int64_t(more)));
}

Person commit_author(const Caller& caller) {
  return {caller.name(), caller.name() + "@users.noreply"};
}

void check_repo_name(const std::string& owner, const std::string& name) {
  auto refuse = [&](const std::string& why) {
    throw ArgumentError("repository name '" + printable(name) + "': " + why);
  };
  if (name.empty()) refuse("is empty");
  if (owner.size() + 1 + name.size() > kMaxName)
    refuse("with its owner longer than " + std::to_string(kMaxName) + " characters");
  for (char c : name)
    if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '.' &&
        c != '_' && c != '-')
      refuse("expected letters, digits, '.', '_' and '-'");
  auto at_end = [&](char c) { return c == '-' || c == '.'; };
  if (at_end(name.front()) || at_end(name.back())) refuse("starts or ends with '-' or '.'");
  if (name.find("--") != name.npos || name.find("..") != name.npos) refuse("contains '--' or '..'");
  std::string end = name.size() >= 4 ? name.substr(name.size() - 4) : "";
  std::transform(end.begin(), end.end(), end.begin(), [](char c) { return char(c | 0x20); });
  if (end == ".git") refuse("ends with .git");
}

std::string select_repos(const std::string& extra) {
  return "SELECT r.id, r.uid, r.type, r.owner, a.name, r.name, r.private, r.gated, r.disabled,"
         " r.generation, r.used_bytes, r.downloads,"
         " (SELECT count(*) FROM likes l WHERE l.repo = r.id), r.created_at, r.updated_at,"
         " r.tags, r.pipeline_tag, r.library_name, r.sdk, r.card, r.config, r.weights" +
         extra + " FROM repos r JOIN accounts a ON a.id = r.owner ";
}

Repo repo_of(const Row& row) {
  Repo repo;
  repo.access.id = row.integer(0);
  repo.uid = row.text(1);
  repo.access.type = row.text(2);
  repo.access.owner = row.integer(3);
  repo.access.owner_name = row.text(4);
  repo.access.name = row.text(5);
  repo.access.is_private = row.integer(6) != 0;
  repo.access.gated = row.optional_text(7).value_or("");
  repo.access.disabled = row.integer(8) == 1;
  repo.generation = row.integer(9);
  repo.used_bytes = row.integer(10);
  repo.downloads = row.integer(11);
  repo.likes = row.integer(12);
  repo.created_at = row.integer(13);
  repo.updated_at = row.integer(14);
  repo.tags = Json::parse(row.text(15), "repos.tags");
  repo.pipeline_tag = row.optional_text(16);
  repo.library_name = row.optional_text(17);
  repo.sdk = row.optional_text(18);
  repo.card = parse_column(row.optional_text(19), "repos.card");
  repo.config = parse_column(row.optional_text(20), "repos.config");
  repo.weights = parse_column(row.optional_text(21), "repos.weights");
  return repo;
}

Repos::~Repos() {
  try {
    write_downloads();
  } catch (const std::exception&) {
    // Counts of the last second, at the end of the process: not worth more.
  }
}

std::optional<Repo> Repos::find(const std::string& type, const std::string& owner,
                                const std::string& name, bool follow_moves) {
  const std::string where = "WHERE r.type = ? AND r.disabled <> ? AND a.name = ? AND r.name = ?";
  return database_.read([&](Transaction& t) -> std::optional<Repo> {
    auto row = t.one(select_repos() + where, type, kBeingMade, owner, name);
    if (row) {
      Repo repo = repo_of(*row);
      bool exact = repo.access.owner_name == owner && repo.access.name == name;
      return exact || follow_moves ? std::optional<Repo>(repo) : std::nullopt;
    }
    if (!follow_moves) return std::nullopt;
    row = t.one(select_repos() +
                    "WHERE r.disabled <> ? AND r.id ="
                    " (SELECT repo FROM moves WHERE type = ? AND owner = ? AND name = ?)",
                kBeingMade, type, owner, name);
    return row ? std::optional<Repo>(repo_of(*row)) : std::nullopt;
  });
}

std::optional<Repo> Repos::find(int64_t id) {
  return database_.read([&](Transaction& t) -> std::optional<Repo> {
    auto row = t.one(select_repos() + "WHERE r.id = ? AND r.disabled <> ?", id, kBeingMade);
    return row ? std::optional<Repo>(repo_of(*row)) : std::nullopt;
  });
}

Repo Repos::create(const Caller& caller, const std::string& type, const Account& owner,
                   const std::string& name, bool is_private, std::optional<std::string> sdk,
                   const std::vector<FileChange>& files) {
  check_type(type);
  check_repo_name(owner.name, name);
  Repo repo;
  repo.access = {0, owner.id, type, owner.name, name, is_private, "", false};
  repo.uid = random_hex(24);
  repo.access.id = database_.write([&](Transaction& t) {
    t.run(
        "DELETE FROM repos WHERE type = ? AND owner = ? AND name = ? AND disabled = ?"
        " AND created_at < ?",
        type, owner.id, name, kBeingMade, now_ms() - kGiveUpMaking);
    if (t.one("SELECT 1 FROM repos WHERE type = ? AND owner = ? AND name = ?", type, owner.id,
              name))
      throw ConflictError(type + " " + repo.full_name() + " exists already");
    t.run(
        "INSERT INTO repos (id, uid, type, owner, name, private, disabled, sdk, created_at,"
        " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        fresh_id(t, "repos"), repo.uid, type, owner.id, name, is_private, kBeingMade, sdk, now_ms(),
        now_ms());
    return t.last_id();
  });
  try {
    NewCommit commit;
    commit.title = "initial commit";
    commit.author = commit_author(caller);
    commit.changes.push_back({FileChange::Kind::add, ".gitattributes", git_attributes()});
    commit.changes.insert(commit.changes.end(), files.begin(), files.end());
    auto stored = git_.write_commit(repo.access.id, {}, commit);
    if (!stored) throw Error("the first commit of " + repo.full_name() + " came out empty");
    publish(caller, repo, {*stored}, {{"refs/heads/main", kNoOid, stored->commit}}, {},
            [&](Transaction& t) {
              t.run("UPDATE repos SET disabled = 0 WHERE id = ?", repo.access.id);
              t.run("DELETE FROM moves WHERE type = ? AND owner = ? AND name = ?", type, owner.name,
                    name);
              t.run("INSERT INTO repo_search (rowid, name, tags) VALUES (?, ?, '')", repo.access.id,
                    repo.full_name());
              queue_event(t, repo, "repo", "create");
            });
  } catch (...) {
    database_.write([&](Transaction& t) {
      t.run("DELETE FROM repos WHERE id = ? AND disabled = ?", repo.access.id, kBeingMade);
    });
    throw;
  }
  accounts_.audit(caller, "repo.create", type + " " + repo.full_name());
  return find(repo.access.id).value();
}

void Repos::remove(const Repo& repo) {
  database_.write([&](Transaction& t) {
    queue_event(t, repo, "repo", "delete");
    t.run("DELETE FROM repo_search WHERE rowid = ?", repo.access.id);
    t.run("DELETE FROM settings WHERE name = ?", "stale " + std::to_string(repo.access.id));
    t.run(
        "INSERT INTO dropped_blobs SELECT pack_blob FROM packs WHERE repo = ?1 UNION"
        " SELECT index_blob FROM packs WHERE repo = ?1",
        repo.access.id);
    t.run("DELETE FROM repos WHERE id = ?", repo.access.id);
  });
  git_.drop_cache(repo.access.id);
}

void Repos::move(const Repo& repo, const Account& new_owner, const std::string& new_name) {
  check_repo_name(new_owner.name, new_name);
  const std::string& type = repo.access.type;
  database_.write([&](Transaction& t) {
    auto taken = t.one("SELECT id FROM repos WHERE type = ? AND owner = ? AND name = ?", type,
                       new_owner.id, new_name);
    if (taken && taken->integer(0) != repo.access.id)
      throw ConflictError(type + " " + new_owner.name + "/" + new_name + " exists already");
    if (new_owner.id != repo.access.owner) check_quota(t, new_owner.id, uint64_t(repo.used_bytes));
    t.run("UPDATE repos SET owner = ?, name = ?, updated_at = ? WHERE id = ?", new_owner.id,
          new_name, now_ms(), repo.access.id);
    t.run("INSERT OR REPLACE INTO moves (type, owner, name, repo) VALUES (?, ?, ?, ?)", type,
          repo.access.owner_name, repo.access.name, repo.access.id);
    t.run("DELETE FROM moves WHERE type = ? AND owner = ? AND name = ?", type, new_owner.name,
          new_name);
    t.run("UPDATE webhooks SET owner = ? WHERE repo = ?", new_owner.id, repo.access.id);
    t.run("UPDATE repo_search SET name = ? WHERE rowid = ?", new_owner.name + "/" + new_name,
          repo.access.id);
    Repo moved = repo;
    moved.access.owner = new_owner.id;
    moved.access.owner_name = new_owner.name;
    moved.access.name = new_name;
    queue_event(t, moved, "repo", "move", {{"movedTo", Json::Object{{"name", moved.full_name()}}}});
  });
}

void Repos::set_visibility(const Repo& repo, bool is_private) {
  database_.write([&](Transaction& t) {
    t.run("UPDATE repos SET private = ? WHERE id = ?", is_private, repo.access.id);
    Repo changed = repo;
    changed.access.is_private = is_private;
    queue_event(t, changed, "repo.config", "update",
                {{"updatedConfig", Json::Object{{"private", is_private}}}});
  });
}

void Repos::set_gated(const Repo& repo, const std::string& gated) {
  if (!gated.empty() && gated != "auto" && gated != "manual")
    throw ArgumentError("gated '" + printable(gated) + "': expected auto, manual or false");
  database_.write([&](Transaction& t) {
    t.run("UPDATE repos SET gated = ? WHERE id = ?",
          gated.empty() ? std::nullopt : std::optional<std::string>(gated), repo.access.id);
    queue_event(
        t, repo, "repo.config", "update",
        {{"updatedConfig", Json::Object{{"gated", gated.empty() ? Json(false) : Json(gated)}}}});
  });
}

bool Repos::access_granted(const Repo& repo, const Caller& caller) {
  if (repo.access.gated.empty()) return true;
  if (!caller.user) return false;
  return database_.read([&](Transaction& t) {
    return t
        .one("SELECT 1 FROM access_requests WHERE repo = ? AND user = ? AND status = 'accepted'",
             repo.access.id, caller.user->id)
        .has_value();
  });
}

void Repos::count_download(const Repo& repo) {
  {
    std::lock_guard lock(downloads_mutex_);
    ++downloads_[repo.access.id];
    if (now_ms() - downloads_written_at_ < 1000) return;
    downloads_written_at_ = now_ms();
  }
  write_downloads();
}

void Repos::write_downloads() {
  std::map<int64_t, int64_t> counts;
  {
    std::lock_guard lock(downloads_mutex_);
    counts.swap(downloads_);
  }
  if (counts.empty()) return;
  database_.write([&](Transaction& t) {
    for (auto [repo, count] : counts)
      t.run("UPDATE repos SET downloads = downloads + ? WHERE id = ?", count, repo);
  });
}

}  // namespace pretrained::server
