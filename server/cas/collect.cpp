#include <algorithm>

#include "server/cas/store.h"

namespace pretrained::server {
namespace {

constexpr size_t kBatch = 200;

// Candidates are found in a snapshot; the rule is applied again where the row is removed, so what
// got a lease or a reference in between stays. Short transactions let uploads through.
std::vector<Row> candidates(Store& store, const char* sql, int64_t now) {
  return store.database.read([&](Transaction& t) {
    return std::string_view(sql).find('?') == std::string_view::npos ? t.query(sql)
                                                                     : t.query(sql, now);
  });
}

void in_batches(
    Store& store, const std::vector<Row>& rows,
    const std::function<void(Transaction&, const Row&)>& work,
    const std::function<void()>& after = [] {}) {
  for (size_t begin = 0; begin < rows.size(); begin += kBatch) {
    store.database.write([&](Transaction& t) {
      for (size_t i = begin; i < std::min(rows.size(), begin + kBatch); ++i) work(t, rows[i]);
    });
    after();
  }
}

Bytes key(const Row& row, size_t column = 0) { return {row.bytes(column)}; }

void expire_uploads(Store& store, int64_t now) {
  auto rows = candidates(store,
                         "SELECT repo, sha256 FROM repo_objects "
                         "WHERE committed = 0 AND lease_until <= ?",
                         now);
  in_batches(store, rows, [&](Transaction& t, const Row& row) {
    t.run(
        "DELETE FROM repo_objects WHERE repo = ? AND sha256 = ? AND committed = 0 AND "
        "lease_until <= ?",
        row.integer(0), key(row, 1), now);
  });
}

uint64_t remove_objects(Store& store, int64_t now) {
  auto rows = candidates(store,
                         "SELECT o.sha256 FROM objects o JOIN files f ON f.hash = o.file "
                         "WHERE f.lease_until <= ? AND NOT EXISTS "
                         "(SELECT 1 FROM repo_objects r WHERE r.sha256 = o.sha256)",
                         now);
  uint64_t removed = 0;
  in_batches(store, rows, [&](Transaction& t, const Row& row) {
    removed += uint64_t(t.run(
        "DELETE FROM objects WHERE sha256 = ? AND NOT EXISTS (SELECT 1 FROM repo_objects r WHERE "
        "r.sha256 = objects.sha256) AND (SELECT lease_until FROM files WHERE hash = objects.file) "
        "<= ?",
        key(row), now));
  });
  return removed;
}

// Aliases stay as long as their object.
uint64_t remove_files(Store& store, int64_t now) {
  auto rows = candidates(store,
                         "SELECT hash FROM files WHERE lease_until <= ? AND NOT EXISTS "
                         "(SELECT 1 FROM objects o WHERE o.sha256 = files.sha256)",
                         now);
  uint64_t removed = 0;
  in_batches(store, rows, [&](Transaction& t, const Row& row) {
    removed +=
        uint64_t(t.run("DELETE FROM files WHERE hash = ? AND lease_until <= ? AND NOT EXISTS "
                       "(SELECT 1 FROM objects o WHERE o.sha256 = files.sha256)",
                       key(row), now));
  });
  return removed;
}

void expire_access(Store& store, int64_t now) {
  auto rows = candidates(store, "SELECT xorb, repo FROM xorb_access WHERE lease_until <= ?", now);
  in_batches(store, rows, [&](Transaction& t, const Row& row) {
    t.run("DELETE FROM xorb_access WHERE xorb = ? AND repo = ? AND lease_until <= ?", key(row),
          row.integer(1), now);
  });
}

void forget_uploaders(Store& store, int64_t now) {
  auto rows =
      candidates(store, "SELECT xorb, user FROM xorb_uploaders WHERE remembered_until <= ?", now);
  in_batches(store, rows, [&](Transaction& t, const Row& row) {
    t.run("DELETE FROM xorb_uploaders WHERE xorb = ? AND user = ? AND remembered_until <= ?",
          key(row), row.integer(1), now);
  });
}

void remove_xorbs(Store& store, int64_t now, ContentStore::Freed& freed) {
  auto rows = candidates(store,
                         "SELECT hash, blob, bytes FROM xorbs x WHERE lease_until <= ? AND NOT "
                         "EXISTS (SELECT 1 FROM file_xorbs f WHERE f.xorb = x.hash) AND NOT EXISTS "
                         "(SELECT 1 FROM xorb_access a WHERE a.xorb = x.hash) AND NOT EXISTS "
                         "(SELECT 1 FROM xorb_uploaders u WHERE u.xorb = x.hash)",
                         now);
  std::vector<std::string> gone;
  auto remove = [&](Transaction& t, const Row& row) {
    if (t.run("DELETE FROM xorbs WHERE hash = ? AND blob = ? AND lease_until <= ? AND NOT EXISTS "
              "(SELECT 1 FROM file_xorbs f WHERE f.xorb = xorbs.hash) AND NOT EXISTS "
              "(SELECT 1 FROM xorb_access a WHERE a.xorb = xorbs.hash) AND NOT EXISTS "
              "(SELECT 1 FROM xorb_uploaders u WHERE u.xorb = xorbs.hash)",
              key(row), row.text(1), now) == 0)
      return;
    gone.push_back(row.text(1));
    ++freed.xorbs;
    freed.bytes += uint64_t(row.integer(2));
    store.xorbs.forget(to_hash(row.bytes(0)));
  };
  // Blobs go after their rows are gone for good: names are never used again.
  in_batches(store, rows, remove, [&] {
    for (auto& blob : std::exchange(gone, {})) store.blobs.remove(blob);
  });
}

}  // namespace

ContentStore::Freed ContentStore::collect(bool remembered) {
  Store& store = *state_;
  Freed freed;
  int64_t now = now_ms();
  expire_uploads(store, now);
  freed.objects = remove_objects(store, now);
  freed.files = remove_files(store, now);
  expire_access(store, now);
  forget_uploaders(store, remembered ? INT64_MAX : now);
  remove_xorbs(store, now, freed);
  remove_expired_uploads(store.blobs);
  freed.bytes += store.blobs.sweep("xorbs", [&](const std::string& blob) {
    return store.database.read([&](Transaction& t) {
      return t.one("SELECT 1 FROM xorbs WHERE blob = ?", blob).has_value();
    });
  });
  return freed;
}

}  // namespace pretrained::server
