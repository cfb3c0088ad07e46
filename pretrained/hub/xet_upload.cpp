#include "pretrained/hub/xet_upload.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "pretrained/hub/chunk_index.h"
#include "pretrained/hub/send_pool.h"
#include "pretrained/hub/upload_journal.h"
#include "pretrained/xet/hashing.h"
#include "pretrained/xet/xorb.h"

namespace pretrained::hub {
namespace {

constexpr size_t kBlock = 256 << 10;  // stays in the second-level cache until it is in its xorb
// Half of what is allowed: the hub has the first one sooner and is done sooner with the last, and
// those under way take half the memory.
constexpr uint64_t kRawXorb = xet::kMaxXorb / 2;
constexpr int kThreads = 3;
constexpr size_t kInFlight = 4;               // xorbs, beside the one that is being filled
constexpr uint64_t kBatchBytes = 1ull << 30;  // files are registered after so many bytes,
constexpr size_t kBatchFiles = 500;           // or so many of them,
constexpr size_t kBatchChunks = 500'000;      // or new chunks: a shard has 64 MiB at most

struct Term {
  uint32_t xorb, begin, end;
  uint64_t size;
};

struct PendingFile {
  std::string path;
  xet::ShardFile file;  // the hashes of its xorbs come later
  std::vector<Term> terms;
};

// What a xorb holds of one file.
struct Portion {
  std::string path;
  uint64_t file_size, bytes;
};

// A xorb that is being filled; before each chunk there is room for its header.
struct Filling {
  uint32_t index;
  std::string bytes;
  uint64_t raw_size = 0;
  std::vector<xet::ChunkSize> chunks;
  std::vector<Portion> portions;
};

// Tells of each file how much of it is through while a xorb is sent.
class Sending {
 public:
  Sending(const Filling& xorb, UploadProgress& progress)
      : left_(xorb.portions),
        raw_(xorb.raw_size),
        stored_(xorb.bytes.size()),
        progress_(progress) {}
  // Bytes as they go over the wire; a repeated attempt begins at none.
  void sent(uint64_t bytes) {
    progress_.sent(bytes >= sent_ ? bytes - sent_ : bytes);
    sent_ = bytes;
    advance_to(raw_ * std::min(bytes, stored_) / stored_);
  }

 private:
  void advance_to(uint64_t raw) {
    while (told_ < raw && at_ < left_.size()) {
      auto& portion = left_[at_];
      uint64_t bytes = std::min(raw - told_, portion.bytes);
      progress_.more(portion.path, bytes, portion.file_size);
      told_ += bytes;
      portion.bytes -= bytes;
      if (portion.bytes == 0) ++at_;
    }
  }
  std::vector<Portion> left_;
  const uint64_t raw_, stored_;
  UploadProgress& progress_;
  uint64_t sent_ = 0, told_ = 0;
  size_t at_ = 0;
};

xet::ShardXorb shard_xorb(const xet::Hash& hash, const std::vector<xet::ChunkSize>& chunks) {
  xet::ShardXorb xorb{.hash = hash};
  for (auto& chunk : chunks)
    xorb.chunks.push_back({.hash = chunk.hash,
                           .size = uint32_t(chunk.size),
                           .dedup_eligible = xet::is_global_dedup_eligible(chunk.hash)});
  return xorb;
}

// Pages of fresh memory cost as much as hashing what is written to them: the buffers of xorbs that
// were sent are filled again.
class Buffers {
 public:
  std::string take() {
    std::lock_guard lock(mutex_);
    std::string buffer;
    if (!free_.empty()) {
      buffer = std::move(free_.back());
      free_.pop_back();
    }
    buffer.reserve(kRawXorb + xet::kMaxXorbChunks * xet::kRecordHeader);
    return buffer;
  }
  void give_back(std::string buffer) {
    buffer.clear();
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> free_;
};

void add_term(std::vector<Term>& terms, ChunkIndex::Place place, uint64_t size) {
  bool goes_on = !terms.empty() && terms.back().xorb == place.xorb &&
                 terms.back().end == place.chunk && terms.back().size + size <= UINT32_MAX;
  if (!goes_on) terms.push_back({place.xorb, place.chunk, place.chunk, 0});
  ++terms.back().end;
  terms.back().size += size;
}

PendingFile pending_file(const LocalFile& local, xet::FileHashes hashes, std::vector<Term> terms) {
  PendingFile pending{.path = local.path, .file = {.hash = hashes.hash}, .terms = std::move(terms)};
  pending.file.has_verification = true;
  pending.file.sha256 = hashes.sha256;
  auto chunk = hashes.chunks.begin();
  std::vector<xet::Hash> range;
  for (auto& term : pending.terms) {
    range.clear();
    for (uint32_t i = term.begin; i < term.end; ++i) range.push_back((chunk++)->hash);
    pending.file.terms.push_back({.size = uint32_t(term.size),
                                  .chunk_begin = term.begin,
                                  .chunk_end = term.end,
                                  .range_hash = xet::range_hash(range)});
  }
  return pending;
}

}  // namespace

struct XetUpload::State {
  State(const HubClient& client, const Repo& repo, XetStore& store, UploadProgress& progress)
      : store(store), progress(progress), journal(client.endpoint(), repo), index(store, journal) {}
  ~State() { store.cancel(); }

  ChunkIndex::Place place(const LocalFile& file, const xet::ChunkSize& chunk,
                          std::string_view bytes) {
    if (auto known = index.find(chunk.hash)) {
      progress.more(file.path, chunk.size, file.size);
      return *known;
    }
    if (filling && (filling->raw_size + chunk.size > kRawXorb ||
                    filling->chunks.size() == xet::kMaxXorbChunks))
      send_xorb();
    if (!filling) filling = {.index = index.open_xorb(), .bytes = buffers.take()};
    ChunkIndex::Place place{filling->index, uint32_t(filling->chunks.size())};
    filling->bytes.append(xet::kRecordHeader, '\0').append(bytes);
    filling->raw_size += chunk.size;
    filling->chunks.push_back(chunk);
    auto& portions = filling->portions;
    if (portions.empty() || portions.back().path != file.path)
      portions.push_back({file.path, file.size, 0});
    portions.back().bytes += chunk.size;
    index.add(chunk.hash, place);
    return place;
  }

  void send_xorb() {
    if (!filling) return;
    auto xorb = std::make_shared<Filling>(std::move(*filling));
    filling.reset();
    xet::Hash hash = xet::xorb_hash(xorb->chunks);
    index.close_xorb(xorb->index, hash);
    new_chunks += xorb->chunks.size();
    new_xorbs.push_back(shard_xorb(hash, xorb->chunks));
    auto send = [this, xorb, hash, entry = new_xorbs.back()] {
      xet::pack_in_place(xorb->chunks, xorb->bytes);
      Sending sending(*xorb, progress);
      store.put_xorb(hash, xorb->bytes, [&](uint64_t sent) { sending.sent(sent); });
      sending.sent(xorb->bytes.size());
      buffers.give_back(std::move(xorb->bytes));
      journal.add(entry);
    };
    under_way.push_back(pool.submit(std::move(send)));
  }

  // Behind the xorbs in the queue: whoever waits for them here waits for tasks that run already.
  void register_files() {
    send_xorb();
    auto shard = std::make_shared<xet::Shard>();
    auto files = std::make_shared<std::vector<PendingFile>>(std::exchange(pending, {}));
    shard->xorbs = std::exchange(new_xorbs, {});
    for (auto& file : *files) {
      for (size_t i = 0; i < file.terms.size(); ++i)
        file.file.terms[i].xorb = index.hash_of(file.terms[i].xorb);
      shard->files.push_back(std::move(file.file));
    }
    new_chunks = pending_bytes = 0;
    if (shard->files.empty() && shard->xorbs.empty()) return;
    std::erase_if(under_way, [](auto& xorb) {
      return xorb.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
    pool.submit([this, shard, files, xorbs = under_way] {
      for (auto& xorb : xorbs) xorb.get();
      put_shard(*shard);
      for (size_t i = 0; i < files->size(); ++i)
        progress.finished((*files)[i].path, shard->files[i].size(), "uploaded");
    });
  }

  void put_shard(const xet::Shard& shard) {
    try {
      progress.sent(store.put_shard(shard));
    } catch (const HubError&) {
      // A xorb that we took for stored may be gone: the next attempt sends it again.
      for (auto& file : shard.files)
        for (auto& term : file.terms) journal.remove(term.xorb);
      throw;
    }
  }

  XetStore& store;
  UploadProgress& progress;
  UploadJournal journal;
  ChunkIndex index;
  Buffers buffers;
  std::optional<Filling> filling;
  std::vector<xet::ShardXorb> new_xorbs;  // since the last shard
  size_t new_chunks = 0;
  std::vector<PendingFile> pending;
  uint64_t pending_bytes = 0;
  std::vector<std::shared_future<void>> under_way;
  SendPool pool{kThreads, kInFlight};  // last: its tasks use the rest
};

XetUpload::XetUpload(const HubClient& client, const Repo& repo, XetStore& store,
                     UploadProgress& progress)
    : state_(new State(client, repo, store, progress)) {}

XetUpload::~XetUpload() = default;

std::string XetUpload::add(const LocalFile& local) {
  auto& state = *state_;
  SourceFile source(local);
  xet::FileHasher hasher({.sha256 = true, .chunks = true});
  std::vector<Term> terms;
  std::string buffer(xet::kMaxChunk + kBlock, '\0');
  size_t open = 0, placed = 0;  // bytes of the open chunk, at the buffer's start; chunks
  auto place = [&](const std::vector<xet::ChunkSize>& chunks, size_t filled) {
    std::string_view bytes = std::string_view(buffer).substr(0, filled);
    for (; placed < chunks.size(); ++placed) {
      uint64_t size = chunks[placed].size;
      add_term(terms, state.place(local, chunks[placed], bytes.substr(0, size)), size);
      bytes.remove_prefix(size);
    }
    open = bytes.size();
    std::memmove(buffer.data(), bytes.data(), open);
  };

  state.index.start_file(local.size);
  for (uint64_t at = 0; at < local.size;) {
    size_t size = std::min<uint64_t>(kBlock, local.size - at);
    source.read(at, buffer.data() + open, size);
    hasher.update(std::string_view(buffer).substr(open, size));
    place(hasher.chunks(), open + size);
    // Terms may name xorbs of earlier shards; one shard would grow too long for the largest files.
    if (state.new_chunks >= kBatchChunks) state.register_files();
    at += size;
    state.progress.progress(local.path, 0, local.size);  // alive
  }
  source.check_unchanged();
  auto hashes = hasher.finish();
  place(hashes.chunks, open);

  state.pending_bytes += local.size;
  std::string sha256 = hashes.sha256;
  state.pending.push_back(pending_file(local, std::move(hashes), std::move(terms)));
  if (state.pending_bytes >= kBatchBytes || state.pending.size() >= kBatchFiles)
    state.register_files();
  return sha256;
}

void XetUpload::finish() {
  state_->register_files();
  state_->pool.wait();
}

}  // namespace pretrained::hub
