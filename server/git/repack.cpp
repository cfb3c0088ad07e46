#include <unistd.h>

#include <algorithm>

#include "server/git/child.h"
#include "server/git/pack_writer.h"
#include "server/git/state.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

struct PackRow {
  int64_t id;
  std::string checksum, pack_blob, index_blob;
  uint64_t objects;
};

struct PackList {
  int64_t generation = 0;
  std::vector<PackRow> packs;  // fewest objects first
};

PackList read_list(Transaction& t, int64_t repo) {
  PackList list;
  auto row = t.one("SELECT generation FROM repos WHERE id = ?", repo);
  if (!row) throw NotFoundError("repository " + std::to_string(repo) + ": does not exist");
  list.generation = row->integer(0);
  for (auto& pack : t.query("SELECT id, checksum, pack_blob, index_blob, objects FROM packs "
                            "WHERE repo = ? ORDER BY objects, id",
                            repo))
    list.packs.push_back(
        {pack.integer(0), pack.text(1), pack.text(2), pack.text(3), uint64_t(pack.integer(4))});
  return list;
}

// Keeps the large packs that are each at least twice what is below them together, so every object
// is only rewritten a logarithmic number of times.
void keep_small_ones(std::vector<PackRow>& packs) {
  uint64_t below = 0;
  size_t roll = 0;
  for (size_t i = 0; i < packs.size(); ++i) {
    if (i > 0 && packs[i].objects < 2 * below) roll = i + 1;
    below += packs[i].objects;
  }
  packs.resize(roll);
}

// The checksum of the new pack in `scratch`; "" where there was nothing to pack.
std::string pack_objects(const Snapshot& snapshot, const fs::path& scratch,
                         std::vector<std::string> arguments, const std::string& input) {
  fs::create_directories(scratch / "objects/pack");
  arguments.insert(arguments.begin(), "pack-objects");
  arguments.insert(arguments.end(),
                   {"--delta-base-offset", "--non-empty", "-q", (scratch / "pack").string()});
  GitCall call{arguments, snapshot.folder->path(), quarantine(scratch, snapshot.folder->path()),
               read_from(input)};
  call.heavy = true;
  call.silence = call.processor;  // it says nothing before the end
  std::string checksum = git_output(call, 4096).substr(0, 40);
  if (!checksum.empty() && !is_oid(checksum))
    throw Error("git pack-objects: unexpected answer '" + printable(checksum) + "'");
  return checksum;
}

void remove_blobs(BlobStore& blobs, const std::vector<PackRow>& packs) {
  for (auto& pack : packs) {
    blobs.remove(pack.index_blob);
    blobs.remove(pack.pack_blob);
  }
}

// Puts `fresh` (none: nothing is left) in the place of `old`; false: the list is another meanwhile.
bool swap(Transaction& t, int64_t repo, const PackList& old, bool dropped_objects,
          const std::optional<GitStore::Stored>& fresh) {
  auto row = t.one("SELECT generation FROM repos WHERE id = ?", repo);
  // Only packs with unreachable objects missing depend on what was reachable at that moment.
  if (!row || (dropped_objects && row->integer(0) != old.generation)) return false;
  for (auto& pack : old.packs)
    if (t.run("DELETE FROM packs WHERE id = ? AND repo = ?", pack.id, repo) == 0)
      throw RefConflict("repack: somebody else was faster");
  if (fresh)
    t.run(
        "INSERT INTO packs (repo, checksum, pack_blob, index_blob, bytes, objects) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        repo, fresh->checksum, fresh->pack_blob, fresh->index_blob, fresh->bytes, fresh->objects);
  t.run("UPDATE repos SET generation = generation + ? WHERE id = ?",
        dropped_objects ? kEpoch : int64_t{1}, repo);
  return true;
}

}  // namespace

bool GitStore::repack(int64_t repo, bool aggressive) {
  PackList old = state_->database.read([&](Transaction& t) { return read_list(t, repo); });
  Snapshot snapshot = state_->caches.current(repo);
  if (aggressive && snapshot.generation != old.generation) return false;
  if (!aggressive) keep_small_ones(old.packs);
  if (old.packs.empty()) return false;

  ScratchFolder scratch(state_->blobs);
  std::string checksum;
  if (aggressive) {
    checksum = pack_objects(snapshot, scratch.path, {"--all", "--no-reuse-delta"}, "");
  } else {
    std::string names;
    for (auto& pack : old.packs) {
      std::string name = "pack-" + pack.checksum + ".pack";
      if (access((snapshot.folder->path() / "objects/pack" / name).c_str(), F_OK) != 0)
        return false;  // repacked since the list was read
      names += name + "\n";
    }
    checksum = pack_objects(snapshot, scratch.path, {"--stdin-packs"}, names);
  }
  std::optional<Stored> fresh;
  if (!checksum.empty()) fresh = store_pack(state_->blobs, scratch.path, checksum);
  bool swapped = false;
  bool reached_end = false;
  auto give_up = [&] {
    if (fresh) state_->blobs.remove(fresh->index_blob);
    if (fresh) state_->blobs.remove(fresh->pack_blob);
  };
  try {
    state_->database.write([&](Transaction& t) {
      reached_end = false;
      swapped = swap(t, repo, old, aggressive, fresh);
      reached_end = true;
    });
  } catch (const RefConflict&) {
    give_up();
    return false;
  } catch (const ConflictError&) {
    give_up();
    return false;
  } catch (...) {
    if (!reached_end) give_up();
    throw;
  }
  if (!swapped) give_up();
  if (swapped) remove_blobs(state_->blobs, old.packs);
  return swapped;
}

}  // namespace pretrained::server
