#include <algorithm>
#include <map>
#include <unordered_map>

#include "pretrained/base/sha256.h"
#include "server/cas/behind.h"
#include "server/cas/store.h"

namespace pretrained::server {
namespace {

constexpr uint64_t kProgressStep = 8 << 20;
// What hf_xet uploaded once it does not offer again, and it asks nobody whether it is still there.
constexpr const char* kForget =
    ": upload it first; a client that did so before must forget it (delete $HF_HOME/xet, which is "
    "~/.cache/huggingface/xet, and upload again)";

// What one uploader may build files of.
class Rights {
 public:
  Rights(Store& store, int64_t repo, const std::function<bool(int64_t)>& readable,
         std::optional<int64_t> user)
      : store_(store), repo_(repo), readable_(readable), user_(user) {}

  bool allows(const FileTerm& term, const OpenXorb& xorb) {
    auto [found, fresh] = known_.try_emplace(term.xorb);
    auto& known = found->second;
    if (fresh) look_up(xorb, known);
    if (known.covers(term)) return true;
    if (readable_ && !std::exchange(known.widened, true)) widen(xorb, known);
    return known.covers(term);
  }

 private:
  struct Known {
    bool whole = false, widened = false;
    std::vector<bool> chunks;
    bool covers(const FileTerm& term) const {
      return whole || std::find(chunks.begin() + term.chunk_begin, chunks.begin() + term.chunk_end,
                                false) == chunks.begin() + term.chunk_end;
    }
  };

  void look_up(const OpenXorb& xorb, Known& known) {
    known.chunks.resize(xorb.table.size());
    store_.database.read([&](Transaction& t) {
      known.whole = t.one(
                         "SELECT 1 FROM xorb_access WHERE xorb = ?1 AND repo = ?2 UNION ALL "
                         "SELECT 1 FROM xorb_uploaders WHERE xorb = ?1 AND user = ?3",
                         to_bytes(xorb.hash), repo_, user_)
                        .has_value();
      if (!known.whole) store_.cover(t, xorb.hash, repo_, known.chunks);
    });
  }

  void widen(const OpenXorb& xorb, Known& known) {
    auto repos = store_.database.read([&](Transaction& t) { return store_.holders(t, xorb.hash); });
    std::erase_if(repos, [&](int64_t repo) {
      auto [found, fresh] = readable_repos_.try_emplace(repo);
      if (fresh) found->second = readable_(repo);
      return !found->second;
    });
    store_.database.read([&](Transaction& t) {
      for (int64_t repo : repos) store_.cover(t, xorb.hash, repo, known.chunks);
    });
  }

  Store& store_;
  int64_t repo_;
  const std::function<bool(int64_t)>& readable_;
  std::optional<int64_t> user_;
  std::unordered_map<Hash, Known> known_;
  std::map<int64_t, bool> readable_repos_;
};

struct Claim {
  FileRow file;
  Hash first_chunk;
  std::optional<Hash> sha256;  // as the shard says
};

[[noreturn]] void refuse(const xet::ShardFile& file, size_t term, const std::string& why) {
  throw FormatError("shard: file " + file.hash.hex() + ", term " + std::to_string(term) + ": " +
                    why);
}

// Everything but the SHA-256: hashes of chunks are in the database since they were verified.
Claim check_file(Store& store, Rights& rights, const xet::ShardFile& file) {
  Claim claim{.file = {file.hash, file.size(), {}, file.terms}};
  if (claim.file.size > kMaxObject)
    throw FormatError("shard: file " + file.hash.hex() + " has " + std::to_string(claim.file.size) +
                      " bytes; at most " + std::to_string(kMaxObject) + " are stored");
  if (file.sha256) claim.sha256 = parse_sha256(*file.sha256);
  if (!file.has_verification && !file.terms.empty())
    refuse(file, 0, "no range hashes; they prove that the sender has the chunks");
  xet::Merkle tree;
  for (size_t n = 0; n < file.terms.size(); ++n) {
    auto& term = file.terms[n];
    auto xorb = store.xorbs.find(term.xorb);
    // One answer for both, or it would say whose xorbs exist.
    std::string unknown = "xorb " + term.xorb.hex() + " is not known to this repository" + kForget;
    if (!xorb) refuse(file, n, unknown);
    bool inside = term.chunk_begin < term.chunk_end && term.chunk_end <= xorb->table.size();
    std::vector<Hash> hashes;
    uint64_t size = 0;
    for (size_t i = term.chunk_begin; inside && i < term.chunk_end; ++i) {
      hashes.push_back(xorb->table.hash(i));
      size += xorb->table.raw_size(i);
      tree.add(hashes.back(), xorb->table.raw_size(i));
    }
    if (!inside || !rights.allows(term, *xorb)) refuse(file, n, unknown);
    if (size != term.size)
      refuse(
          file, n,
          "says " + std::to_string(term.size) + " bytes, its chunks have " + std::to_string(size));
    if (xet::range_hash(hashes) != term.range_hash) refuse(file, n, "wrong range hash");
    if (n == 0) claim.first_chunk = hashes[0];
  }
  if (tree.file_hash() != file.hash)
    throw FormatError("shard: file " + file.hash.hex() + ": its chunks give " +
                      tree.file_hash().hex());
  return claim;
}

// Nothing of the files is collected while they are read.
void renew_xorbs(Store& store, const std::vector<Claim>& claims) {
  std::map<Hash, bool> seen;
  for (auto& claim : claims)
    for (auto& term : claim.file.terms) seen[term.xorb] = true;
  store.database.write([&](Transaction& t) {
    for (auto& [xorb, _] : seen)
      if (!store.renew_xorb(t, xorb))
        throw FormatError("shard: xorb " + xorb.hex() + " is gone or damaged" + kForget);
  });
}

// The whole file is read, its chunks compared, in this thread; the SHA-256 takes as long as that
// and has a thread of its own.
Hash sha256_of(Store& store, const FileRow& file, const std::function<void(uint64_t)>& progress) {
  Sha256 sha256;
  if (file.size <= Behind::kAlone) {
    auto add = [&](std::string_view part) { sha256.update(part); };
    if (file.size > 0) store.read(file, 0, file.size - 1, {add, nullptr});
    progress(file.size);
  } else {
    Behind behind([&](std::string_view part) { sha256.update(part); });
    auto add = [&](std::string_view part) {
      behind.write(part);
      progress(part.size());
    };
    store.read(file, 0, file.size - 1, {add, nullptr});
    behind.finish();
  }
  return parse_sha256(sha256.hex());
}

}  // namespace

bool ContentStore::put_shard(int64_t repo, std::string_view bytes,
                             const std::function<void(uint64_t, uint64_t)>& progress,
                             const std::function<bool(int64_t repo)>& readable,
                             std::optional<int64_t> user) {
  if (bytes.size() > xet::kMaxShard)
    throw FormatError("shard of " + std::to_string(bytes.size()) + " bytes; at most " +
                      std::to_string(xet::kMaxShard));
  auto shard = xet::parse_shard(bytes);
  Rights rights(*state_, repo, readable, user);
  std::vector<Claim> claims;
  uint64_t total = 0, done = 0, told = 0;
  for (auto& file : shard.files) {
    claims.push_back(check_file(*state_, rights, file));
    total += claims.back().file.size;
  }
  renew_xorbs(*state_, claims);

  for (auto& claim : claims) {
    if (auto known = state_->find_file(claim.file.hash)) {
      claim.file.sha256 = known->sha256;
      done += claim.file.size;
    } else {
      claim.file.sha256 = sha256_of(*state_, claim.file, [&](uint64_t bytes) {
        done += bytes;
        if (progress && done - told >= kProgressStep) progress(told = done, total);
      });
    }
    if (claim.sha256 && *claim.sha256 != claim.file.sha256)
      throw FormatError("shard: file " + claim.file.hash.hex() + " has the SHA-256 " +
                        claim.file.sha256.plain_hex() + ", the shard says " +
                        claim.sha256->plain_hex());
  }
  if (progress) progress(total, total);
  return state_->database.write([&](Transaction& t) {
    bool fresh = false;
    for (auto& claim : claims) {
      fresh |= state_->add_file(t, claim.file, claim.first_chunk);
      fresh |= state_->grant_object(t, repo, claim.file.sha256);
    }
    return fresh;
  });
}

}  // namespace pretrained::server
