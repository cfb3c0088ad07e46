#include "server/cas/content_store.h"

#include <set>

#include "server/cas/store.h"

namespace pretrained::server {

ContentStore::ContentStore(Database& database, BlobStore& blobs, std::chrono::seconds lease)
    : state_(new State{{database, blobs, int64_t(lease.count()) * 1000}}) {}

ContentStore::~ContentStore() = default;

std::optional<ContentObject> ContentStore::object(int64_t repo, const std::string& sha256) {
  return objects(repo, {sha256})[0];
}

std::vector<std::optional<ContentObject>> ContentStore::objects(
    int64_t repo, const std::vector<std::string>& sha256) {
  std::vector<std::optional<ContentObject>> found;
  state_->database.read([&](Transaction& t) {
    for (auto& name : sha256) {
      Hash hash = parse_sha256(name);
      // An upload whose lease is over may be collected at any moment: it is gone.
      bool held = t.one(
                       "SELECT 1 FROM repo_objects WHERE repo = ? AND sha256 = ? AND "
                       "(committed = 1 OR lease_until > ?)",
                       repo, to_bytes(hash), now_ms())
                      .has_value();
      found.push_back(held ? state_->find_object(t, hash) : std::nullopt);
    }
  });
  return found;
}

bool ContentStore::touch(int64_t repo, const std::string& sha256) {
  bool damaged = state_->database.read([&](Transaction& t) {
    auto object = state_->find_object(t, parse_sha256(sha256));
    return object && state_->is_damaged(t, object->xet_hash);
  });
  return !damaged && share(repo, repo, sha256);
}

bool ContentStore::share(int64_t from, int64_t to, const std::string& sha256) {
  Hash hash = parse_sha256(sha256);
  return state_->database.write([&](Transaction& t) {
    auto held =
        t.one("SELECT 1 FROM repo_objects WHERE repo = ? AND sha256 = ?", from, to_bytes(hash));
    if (held) state_->grant_object(t, to, hash);
    return held.has_value();
  });
}

void ContentStore::commit_objects(Transaction& transaction, int64_t repo,
                                  const std::vector<std::string>& sha256) {
  for (auto& name : sha256)
    if (transaction.run("UPDATE repo_objects SET committed = 1, lease_until = max(lease_until, ?) "
                        "WHERE repo = ? AND sha256 = ?",
                        state_->lease_until(), repo, to_bytes(parse_sha256(name))) == 0)
      throw NotFoundError("object " + name +
                          " was not uploaded to this repository: upload it, then commit");
}

uint64_t ContentStore::uncommitted_bytes(Transaction& t, int64_t repo,
                                         const std::vector<std::string>& sha256) {
  uint64_t bytes = 0;
  for (auto& name : std::set<std::string>(sha256.begin(), sha256.end())) {
    auto row = t.one(
        "SELECT o.size FROM repo_objects r JOIN objects o ON o.sha256 = r.sha256 "
        "WHERE r.repo = ? AND r.sha256 = ? AND r.committed = 0",
        repo, to_bytes(parse_sha256(name)));
    if (row) bytes += uint64_t(row->integer(0));
  }
  return bytes;
}

std::vector<ContentStore::Committed> ContentStore::committed(int64_t repo, const std::string& after,
                                                             size_t limit) {
  auto rows = state_->database.read([&](Transaction& t) {
    return t.query(
        "SELECT r.sha256, o.size, r.pushed_at FROM repo_objects r "
        "JOIN objects o ON o.sha256 = r.sha256 "
        "WHERE r.repo = ? AND r.committed = 1 AND r.sha256 > ? ORDER BY r.sha256 LIMIT ?",
        repo, after.empty() ? Bytes{} : to_bytes(parse_sha256(after)), int64_t(limit));
  });
  std::vector<Committed> list;
  for (auto& row : rows)
    list.push_back({to_hash(row.bytes(0)).plain_hex(), uint64_t(row.integer(1)), row.integer(2)});
  return list;
}

void ContentStore::drop_objects(Transaction& t, int64_t repo, const std::set<std::string>& sha256) {
  for (auto& name : sha256)
    t.run("DELETE FROM repo_objects WHERE repo = ? AND sha256 = ?", repo,
          to_bytes(parse_sha256(name)));
}

void ContentStore::keep_only(int64_t repo, const std::vector<std::string>& sha256) {
  std::set<Hash> named;
  for (auto& name : sha256) named.insert(parse_sha256(name));
  auto held = state_->database.read([&](Transaction& t) {
    return t.query("SELECT sha256 FROM repo_objects WHERE repo = ? AND lease_until <= ?", repo,
                   now_ms());
  });
  std::erase_if(held, [&](const Row& row) { return named.count(to_hash(row.bytes(0))) > 0; });
  constexpr size_t kBatch = 500;
  for (size_t begin = 0; begin < held.size(); begin += kBatch)
    state_->database.write([&](Transaction& t) {
      for (size_t i = begin; i < std::min(held.size(), begin + kBatch); ++i)
        t.run("DELETE FROM repo_objects WHERE repo = ? AND sha256 = ? AND lease_until <= ?", repo,
              Bytes{held[i].bytes(0)}, now_ms());
    });
}

uint64_t ContentStore::used_bytes(int64_t repo) {
  return state_->database.read([&](Transaction& t) {
    return uint64_t(t.one("SELECT coalesce(sum(o.size), 0) FROM repo_objects r "
                          "JOIN objects o ON o.sha256 = r.sha256 WHERE r.repo = ?",
                          repo)
                        ->integer(0));
  });
}

}  // namespace pretrained::server
