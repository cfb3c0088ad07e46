#include <algorithm>
#include <set>

#include "server/git/rules.h"
#include "server/git/state.h"

namespace pretrained::server {
namespace {

// A name like "a" beside one like "a/b" cannot be a folder of files in anybody's clone.
void check_neighbours(Transaction& t, int64_t repo, const std::string& name) {
  auto refuse = [&](const std::string& other) {
    throw RefConflict("reference '" + name + "': '" + other + "' exists");
  };
  for (size_t slash = name.find('/', 5); slash != name.npos; slash = name.find('/', slash + 1)) {
    std::string above = name.substr(0, slash);
    if (t.one("SELECT 1 FROM refs WHERE repo = ? AND name = ?", repo, above)) refuse(above);
  }
  // '0' is the character behind '/'.
  auto below = t.one("SELECT name FROM refs WHERE repo = ? AND name > ? AND name < ? LIMIT 1", repo,
                     name + "/", name + "0");
  if (below) refuse(below->text(0));
}

void move_ref(Transaction& t, int64_t repo, const RefUpdate& update) {
  auto row = t.one("SELECT target FROM refs WHERE repo = ? AND name = ?", repo, update.name);
  Oid now = row ? row->text(0) : kNoOid;
  if (update.from != "*" && update.from != now)
    throw RefConflict("reference '" + update.name + "': expected " + update.from + ", found " +
                      now + "; somebody else moved it");
  if (update.to == kNoOid)
    t.run("DELETE FROM refs WHERE repo = ? AND name = ?", repo, update.name);
  else
    t.run(
        "INSERT INTO refs (repo, name, target) VALUES (?, ?, ?) "
        "ON CONFLICT (repo, name) DO UPDATE SET target = excluded.target",
        repo, update.name, update.to);
}

// False: the repository has this very pack already.
bool add_pack(Transaction& t, int64_t repo, const GitStore::Stored& pack) {
  return t.run(
             "INSERT INTO packs (repo, checksum, pack_blob, index_blob, bytes, objects) "
             "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (repo, checksum) DO NOTHING",
             repo, pack.checksum, pack.pack_blob, pack.index_blob, pack.bytes, pack.objects) > 0;
}

void check_updates(const std::vector<RefUpdate>& updates) {
  std::set<std::string> names;
  for (auto& update : updates) {
    if (!is_ref_name(update.name))
      throw ArgumentError("reference '" + printable(update.name) +
                          "': not a name that git accepts");
    if (!names.insert(update.name).second)
      throw ArgumentError("reference '" + update.name + "': named twice");
    from_hex(update.to);
    if (update.from != "*") from_hex(update.from);
  }
}

}  // namespace

void check_epoch(Transaction& t, int64_t repo, int64_t generation) {
  auto row = t.one("SELECT generation FROM repos WHERE id = ?", repo);
  if (!row) throw NotFoundError("repository " + std::to_string(repo) + ": does not exist");
  if (epoch_of(row->integer(0)) != epoch_of(generation))
    throw RefConflict("repository " + std::to_string(repo) + ": was repacked meanwhile; try again");
}

void GitParts::publish(int64_t repo, const std::vector<Stored>& packs,
                       const std::vector<RefUpdate>& updates, std::optional<int64_t> checked_at,
                       const std::function<void(Transaction&)>& also) {
  auto remove = [&](const Stored& pack) {
    blobs.remove(pack.index_blob);
    blobs.remove(pack.pack_blob);
  };
  bool reached_end = false;  // beyond it, a failed commit may have happened all the same
  int64_t count = 0;         // of the packs afterwards
  std::vector<Stored> superfluous;
  try {
    database.write([&](Transaction& t) {
      reached_end = false;
      superfluous.clear();
      if (checked_at) check_epoch(t, repo, *checked_at);
      for (auto& pack : packs) {
        check_epoch(t, repo, pack.generation);
        if (!add_pack(t, repo, pack)) superfluous.push_back(pack);
        if (!pack.changed.empty())
          PathIndex::extend(t, repo, pack.commit, pack.parent, pack.changed);
      }
      for (auto& update : updates) move_ref(t, repo, update);
      for (auto& update : updates)
        if (update.to != kNoOid) check_neighbours(t, repo, update.name);
      t.run("UPDATE repos SET generation = generation + 1 WHERE id = ?", repo);
      if (also) also(t);
      if (!packs.empty())
        count = t.one("SELECT count(*) FROM packs WHERE repo = ?", repo)->integer(0);
      reached_end = true;
    });
  } catch (...) {
    if (!reached_end)
      for (auto& pack : packs) remove(pack);
    throw;
  }
  for (auto& pack : superfluous) remove(pack);
  std::lock_guard lock(listening);
  if (on_many_packs && count > many_packs) on_many_packs(repo);
}

GitStore::GitStore(Database& database, BlobStore& blobs, const std::filesystem::path& cache_folder,
                   PushLimits limits)
    : state_(std::make_unique<State>(database, blobs, cache_folder, limits)) {}

GitStore::~GitStore() = default;

std::vector<Ref> GitStore::refs(int64_t repo) {
  return state_->database.read([&](Transaction& t) {
    std::vector<Ref> list;
    for (auto& row : t.query("SELECT name, target FROM refs WHERE repo = ? ORDER BY name", repo))
      list.push_back({row.text(0), row.text(1)});
    return list;
  });
}

std::optional<Oid> GitStore::resolve(int64_t repo, const std::string& revision) {
  if (revision.empty() || revision.size() > 512) return std::nullopt;
  auto target_of = [&](const std::string& name) {
    return state_->database.read([&](Transaction& t) -> std::optional<Oid> {
      auto row = t.one("SELECT target FROM refs WHERE repo = ? AND name = ?", repo, name);
      return row ? std::optional<Oid>(row->text(0)) : std::nullopt;
    });
  };
  auto peel = [&](const Oid& oid) -> std::optional<Oid> {
    auto commit = state_->caches.current(repo).folder->borrow()->peel(from_hex(oid));
    return commit ? std::optional<Oid>(to_hex(*commit)) : std::nullopt;
  };
  if (is_oid(revision)) return peel(revision) == revision ? std::optional(revision) : std::nullopt;
  if (revision == "HEAD") return target_of("refs/heads/main");
  if (revision.rfind("refs/", 0) == 0) {
    auto target = target_of(revision);
    return target ? peel(*target) : std::nullopt;
  }
  if (auto branch = target_of("refs/heads/" + revision)) return branch;
  auto tag = target_of("refs/tags/" + revision);
  return tag ? peel(*tag) : std::nullopt;
}

std::unique_ptr<GitView> GitStore::open(int64_t repo) {
  return make_view(repo, state_->caches.current(repo), state_->index);
}

void GitStore::publish(int64_t repo, const std::vector<Stored>& packs,
                       const std::vector<RefUpdate>& updates,
                       const std::function<void(Transaction&)>& also) {
  check_updates(updates);
  std::set<Oid> made;
  for (auto& pack : packs) made.insert(pack.commit);
  // Existing targets are looked up outside the transaction, which only asks whether objects were
  // dropped since.
  std::optional<Snapshot> snapshot;
  for (auto& update : updates) {
    if (update.to == kNoOid || made.count(update.to)) continue;
    if (!snapshot) snapshot = state_->caches.current(repo);
    auto objects = snapshot->folder->borrow();
    git_oid oid = from_hex(update.to);
    bool branch = update.name.rfind("refs/tags/", 0) != 0;
    auto commit = objects->peel(oid);
    if (!commit || (branch && to_hex(*commit) != update.to))
      throw ArgumentError("reference '" + update.name + "': " + update.to +
                          " is not a commit of the repository");
  }
  std::optional<int64_t> checked_at;
  if (snapshot) checked_at = snapshot->generation;
  state_->publish(repo, packs, updates, checked_at, also);
}

int64_t GitStore::pack_count(int64_t repo) {
  return state_->database.read([&](Transaction& t) {
    return t.one("SELECT COUNT(*) FROM packs WHERE repo = ?", repo)->integer(0);
  });
}

void GitStore::on_many_packs(int64_t count, std::function<void(int64_t repo)> listener) {
  std::lock_guard lock(state_->listening);
  state_->many_packs = count;
  state_->on_many_packs = std::move(listener);
}

void GitStore::drop_cache(int64_t repo) { state_->caches.drop(repo); }

std::vector<std::string> GitStore::blob_names(int64_t repo) {
  return state_->database.read([&](Transaction& t) {
    std::vector<std::string> names;
    for (auto& row : t.query("SELECT index_blob, pack_blob FROM packs WHERE repo = ?", repo)) {
      names.push_back(row.text(0));
      names.push_back(row.text(1));
    }
    return names;
  });
}

uint64_t GitStore::sweep() {
  uint64_t freed = 0;
  auto dropped = state_->database.read(
      [](Transaction& t) { return t.query("SELECT name FROM dropped_blobs"); });
  for (const auto& row : dropped) {
    try {
      freed += state_->blobs.size(row.text(0));
    } catch (const NotFoundError&) {
      // Removed before, by a process that did not get to the row.
    }
    state_->blobs.remove(row.text(0));
    state_->database.write(
        [&](Transaction& t) { t.run("DELETE FROM dropped_blobs WHERE name = ?", row.text(0)); });
  }
  // Most are known, and finding out one by one is slow; only the others are asked for again.
  std::set<std::string> named;
  state_->database.read([&](Transaction& t) {
    t.each_values("SELECT index_blob, pack_blob FROM packs", {}, [&](const Row& row) {
      named.insert({row.text(0), row.text(1)});
      return true;
    });
  });
  return freed + state_->blobs.sweep("packs", [&](const std::string& name) {
    if (named.count(name)) return true;
    return state_->database.read([&](Transaction& t) {
      return t.one("SELECT 1 FROM packs WHERE pack_blob = ? OR index_blob = ?", name, name)
          .has_value();
    });
  });
}

}  // namespace pretrained::server
