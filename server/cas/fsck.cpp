#include <algorithm>

#include "pretrained/base/sha256.h"
#include "server/cas/store.h"

namespace pretrained::server {
namespace {

// One row at a time by key, so that the walk holds no snapshot and little memory.
template <class Visit>
void each_key(Store& store, const std::string& table, const std::string& column, Visit visit) {
  Bytes last;
  for (;;) {
    auto rows = store.database.read([&](Transaction& t) {
      return t.query("SELECT " + column + " FROM " + table + " WHERE " + column + " > ? ORDER BY " +
                         column + " LIMIT 256",
                     last);
    });
    if (rows.empty()) return;
    for (auto& row : rows) visit(to_hash(row.bytes(0)));
    last.data = rows.back().bytes(0);
  }
}

class Check {
 public:
  Check(Store& store, bool read_bytes, const std::function<void(uint64_t, uint64_t)>& progress)
      : store_(store), read_bytes_(read_bytes), progress_(progress) {}

  std::vector<std::string> run() {
    if (read_bytes_)
      total_ = store_.database.read([&](Transaction& t) {
        return uint64_t(t.one("SELECT (SELECT coalesce(sum(raw_bytes), 0) FROM xorbs) + "
                              "(SELECT coalesce(sum(size), 0) FROM objects)")
                            ->integer(0));
      });
    each_key(store_, "xorbs", "hash", [&](const Hash& hash) {
      uint64_t before = found_;
      guard("xorbs", "hash", hash, [&] { check_xorb(hash); });
      mark(hash, found_ > before);
    });
    walk("files", "hash", [&](const Hash& hash) { check_file(hash); });
    walk("objects", "sha256", [&](const Hash& sha256) { check_object(sha256); });
    return std::move(problems_);
  }

 private:
  static constexpr size_t kMaxProblems = 10000;

  void walk(const std::string& table, const std::string& column,
            const std::function<void(const Hash&)>& check) {
    each_key(store_, table, column,
             [&](const Hash& key) { guard(table, column, key, [&] { check(key); }); });
  }

  // Damage is noted and the walk goes on, unless the row was collected meanwhile.
  void guard(const std::string& table, const std::string& column, const Hash& key,
             const std::function<void()>& work) {
    std::string problem;
    try {
      return work();
    } catch (const DamagedContent& error) {
      problem = error.what();
    } catch (const FormatError& error) {
      problem = error.what();
    } catch (const NotFoundError& error) {
      problem = error.what();
    }
    bool still = store_.database.read([&](Transaction& t) {
      return t.one("SELECT 1 FROM " + table + " WHERE " + column + " = ?", to_bytes(key))
          .has_value();
    });
    if (still) note(problem);
  }
  // Only who has read all bytes knows that a xorb is sound again.
  void mark(const Hash& hash, bool damaged) {
    if (!damaged && !read_bytes_) return;
    bool differs = store_.database.read([&](Transaction& t) {
      return t
          .one("SELECT 1 FROM xorbs WHERE hash = ? AND damaged <> ?", to_bytes(hash),
               int64_t(damaged))
          .has_value();
    });
    if (!differs) return;
    store_.database.write([&](Transaction& t) {
      t.run("UPDATE xorbs SET damaged = ? WHERE hash = ?", int64_t(damaged), to_bytes(hash));
    });
  }
  void note(const std::string& problem) {
    ++found_;
    if (problems_.size() < kMaxProblems) problems_.push_back(problem);
  }
  void advance(uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(done_, total_);
  }

  void check_xorb(const Hash& hash) {
    auto xorb = store_.xorbs.find(hash);
    if (!xorb) return;  // collected since
    auto row = store_.database.read([&](Transaction& t) {
      return t.one("SELECT blob, bytes, raw_bytes, chunks FROM xorbs WHERE hash = ?",
                   to_bytes(hash));
    });
    if (!row) return;
    uint64_t size = store_.blobs.size(row->text(0)), raw = 0;
    if (size != uint64_t(row->integer(1)))
      note("xorb " + hash.hex() + ": its blob " + row->text(0) + " has " + std::to_string(size) +
           " bytes, expected " + std::to_string(row->integer(1)));
    xet::Merkle tree;
    for (size_t i = 0; i < xorb->table.size(); ++i) {
      tree.add(xorb->table.hash(i), xorb->table.raw_size(i));
      raw += xorb->table.raw_size(i);
    }
    if (tree.root() != hash || raw != uint64_t(row->integer(2)) ||
        xorb->table.size() != uint64_t(row->integer(3)))
      note("xorb " + hash.hex() + ": its row does not fit its chunks");
    for (size_t i = 0; read_bytes_ && i < xorb->table.size(); ++i) {
      guard("xorbs", "hash", hash, [&] { xorb->read(i); });
      advance(xorb->table.raw_size(i));
    }
  }

  void check_file(const Hash& hash) {
    auto file = store_.find_file(hash);
    if (!file) return;
    xet::Merkle tree;
    for (auto& term : file->terms) {
      auto xorb = store_.xorbs.open(term.xorb);
      std::vector<Hash> hashes;
      uint64_t size = 0;
      for (size_t i = term.chunk_begin; i < std::min<size_t>(term.chunk_end, xorb->table.size());
           ++i) {
        hashes.push_back(xorb->table.hash(i));
        size += xorb->table.raw_size(i);
        tree.add(hashes.back(), xorb->table.raw_size(i));
      }
      if (size != term.size || xet::range_hash(hashes) != term.range_hash)
        note("file " + hash.hex() + ": chunks " + std::to_string(term.chunk_begin) + " to " +
             std::to_string(term.chunk_end) + " of xorb " + term.xorb.hex() + " do not fit");
    }
    if (tree.file_hash() != hash || tree.size() != file->size)
      note("file " + hash.hex() + ": its chunks give " + tree.file_hash().hex() + " with " +
           std::to_string(tree.size()) + " bytes, expected " + std::to_string(file->size));
  }

  void check_object(const Hash& sha256) {
    auto object =
        store_.database.read([&](Transaction& t) { return store_.find_object(t, sha256); });
    auto file = object ? store_.find_file(object->xet_hash) : std::nullopt;
    if (!file) return;
    if (file->sha256 != sha256 || file->size != object->size)
      note("object " + object->sha256 + ": its file " + file->hash.hex() + " is another's");
    if (!read_bytes_) return;
    Sha256 sum;
    if (file->size > 0)
      store_.read(*file, 0, file->size - 1,
                  {[&](std::string_view bytes) {
                     sum.update(bytes);
                     advance(bytes.size());
                   },
                   nullptr});
    if (sum.hex() != object->sha256)
      note("object " + object->sha256 + ": its bytes have another SHA-256");
  }

  Store& store_;
  bool read_bytes_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  std::vector<std::string> problems_;
  uint64_t done_ = 0, total_ = 0, found_ = 0;
};

}  // namespace

std::vector<std::string> ContentStore::fsck(
    bool read_bytes, const std::function<void(uint64_t, uint64_t)>& progress) {
  return Check(*state_, read_bytes, progress).run();
}

}  // namespace pretrained::server
