#include <fcntl.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "server/cas/published.h"
#include "server/cas/store.h"

namespace pretrained::server {
namespace {

constexpr size_t kBuffer = 512 << 10;
constexpr size_t kCandidates = 16;
constexpr uint64_t kPushStep = 4 << 20;

Hash random_hash() {
  Hash hash;
  if (RAND_bytes(hash.bytes.data(), int(hash.bytes.size())) != 1)
    throw Error("OpenSSL has no random numbers");
  return hash;
}

struct Found {
  std::shared_ptr<const OpenXorb> xorb;
  std::vector<bool> visible;
};

// The chunks that the caller may know of: those in files of readable repositories; all of a xorb
// that this repository uploaded and that is in no file yet, so that a broken upload can go on.
std::vector<bool> visible_chunks(Store& store, int64_t repo, const OpenXorb& xorb,
                                 const std::function<bool(int64_t)>& readable) {
  std::vector<bool> chunks(xorb.table.size());
  auto repos = store.database.read([&](Transaction& t) { return store.holders(t, xorb.hash); });
  bool own = repos.empty() && store.database.read([&](Transaction& t) {
    return t.one("SELECT 1 FROM xorb_access WHERE xorb = ? AND repo = ?", to_bytes(xorb.hash), repo)
        .has_value();
  });
  if (own && readable(repo)) chunks.assign(chunks.size(), true);
  std::erase_if(repos, [&](int64_t holder) { return !readable(holder); });
  store.database.read([&](Transaction& t) {
    for (int64_t holder : repos) store.cover(t, xorb.hash, holder, chunks);
  });
  return chunks;
}

std::optional<Found> find_visible(Store& store, int64_t repo, const Hash& chunk,
                                  const std::function<bool(int64_t)>& readable) {
  auto candidates = store.database.read([&](Transaction& t) {
    return t.query("SELECT xorb FROM dedup_chunks WHERE chunk = ? LIMIT ?", to_bytes(chunk),
                   kCandidates);
  });
  for (auto& row : candidates) {
    auto xorb = store.xorbs.find(to_hash(row.bytes(0)));
    if (!xorb) continue;
    auto visible = visible_chunks(store, repo, *xorb, readable);
    for (size_t i = 0; i < visible.size(); ++i)
      if (visible[i] && xorb->table.hash(i) == chunk) return Found{xorb, std::move(visible)};
  }
  return std::nullopt;
}

}  // namespace

bool ContentStore::put_xorb(int64_t repo, const Hash& hash,
                            const std::function<size_t(char*, size_t)>& read,
                            std::optional<int64_t> user) {
  StagedBlob staged = state_->blobs.stage();
  uint64_t pushed = 0;
  xet::XorbVerifier verifier;
  std::string buffer(kBuffer, '\0');
  // Filled whole: a chunk that is in it from end to end is hashed where it lies.
  auto fill = [&] {
    size_t filled = 0;
    while (filled < buffer.size())
      if (size_t got = read(buffer.data() + filled, buffer.size() - filled))
        filled += got;
      else
        break;
    return filled;
  };
  while (size_t got = fill()) {
    std::string_view bytes(buffer.data(), got);
    if (staged.size() + got > xet::kMaxXorbUpload)
      throw FormatError("xorb " + hash.hex() + " is longer than " +
                        std::to_string(xet::kMaxXorbUpload) + " bytes");
    verifier.feed(bytes);
    staged.write(bytes);
    // The disk starts while the rest is on its way, and fsync finds little left to do.
    if (staged.size() - pushed >= kPushStep) {
      sync_file_range(staged.fd(), off_t(pushed), off_t(staged.size() - pushed),
                      SYNC_FILE_RANGE_WRITE);
      pushed = staged.size();
    }
  }
  auto table = verifier.finish(hash);
  if (table.end < staged.size() && ftruncate(staged.fd(), off_t(table.end)) != 0)
    throw IoError(staged.path().string() + ": " + std::strerror(errno));

  // The bytes were shown, so even a xorb that is here already may now be referred to.
  bool known = state_->database.write([&](Transaction& t) {
    bool renewed = state_->renew_xorb(t, hash);
    if (renewed) state_->grant_xorb(t, repo, hash);
    if (renewed) state_->remember_uploader(t, hash, user);
    return renewed;
  });
  if (known) return false;
  PublishedBlobs blobs(state_->blobs);
  std::string blob = blobs.publish(std::move(staged), "xorbs/" + hash.hex());
  blobs.keep();
  bool fresh = state_->database.write([&](Transaction& t) {
    bool added = state_->add_xorb(t, repo, table, blob);
    state_->remember_uploader(t, hash, user);
    return added;
  });
  if (!fresh) state_->blobs.remove(blob);
  return fresh;
}

std::optional<std::string> ContentStore::query_chunk(
    int64_t repo, const Hash& chunk, const std::function<bool(int64_t repo)>& readable) {
  auto found = find_visible(*state_, repo, chunk, readable);
  if (!found) return std::nullopt;
  auto& table = found->xorb->table;
  bool promised = state_->database.write([&](Transaction& t) {
    bool there = state_->renew_xorb(t, found->xorb->hash);
    if (there) state_->grant_xorb(t, repo, found->xorb->hash);
    return there;
  });
  if (!promised) return std::nullopt;

  xet::Shard shard;
  auto& xorb = shard.xorbs.emplace_back();
  xorb.hash = found->xorb->hash;
  xorb.stored_size = uint32_t(table.begin(table.size()));
  for (size_t i = 0; i < table.size(); ++i)
    xorb.chunks.push_back({.hash = found->visible[i] ? table.hash(i) : random_hash(),
                           .size = table.raw_size(i),
                           .dedup_eligible = table.hash(i) == chunk});
  uint64_t now = uint64_t(now_ms()) / 1000;
  return xet::serialize_dedup_shard(
      shard, {.key = random_hash(), .created = now, .expires = now + state_->lease_ms / 1000});
}

}  // namespace pretrained::server
