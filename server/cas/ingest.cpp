#include "server/cas/ingest.h"

#include <algorithm>

namespace pretrained::server {
namespace {

// Chunks whose place is remembered; a file's older ones are then stored again if they come again.
constexpr size_t kMaxPlaces = 256 << 10;
// A file may always have this many terms; one that has more has this many chunks a term.
constexpr size_t kFreeRuns = 64, kRunChunks = 4;
// A chunk that compression makes shorter by less than an eighth stays as it is and goes from file
// to socket without being touched.
constexpr size_t kLeastGain = 8;

}  // namespace

Ingest::~Ingest() {
  if (publishing_.valid()) publishing_.wait();
}

void Ingest::feed(std::string_view bytes) {
  chunker_.feed(bytes, ends_);
  cut(bytes);
}

// Adds the chunks that end at `ends_`; the rest of what was held and of `bytes` is held.
void Ingest::cut(std::string_view bytes) {
  for (uint64_t end : ends_) {
    size_t size = size_t(end - std::exchange(chunk_begin_, end));
    if (held_.empty()) {
      add_chunk(bytes.substr(0, size));
      bytes.remove_prefix(size);
      continue;
    }
    // The chunker may know of an end only some bytes later.
    size_t missing = size - std::min(size, held_.size());
    held_ += bytes.substr(0, missing);
    bytes.remove_prefix(missing);
    add_chunk(std::string_view(held_).substr(0, size));
    held_.erase(0, size);
  }
  held_ += bytes;
  ends_.clear();
}

void Ingest::add_chunk(std::string_view chunk) {
  Hash hash = xet::chunk_hash(chunk);
  if (tree_.count() == 0) first_chunk_ = hash;
  tree_.add(hash, chunk.size());
  auto place = find(hash);
  if (place && is_fragment(*place)) place.reset();
  after_hit_ = place.has_value();
  if (!place) place = pack(chunk, hash);
  add_to_run(*place, hash, chunk.size());
}

// Bytes that repeat, or pieces from many places, would make a list of terms longer than the file
// is worth: then a chunk is stored again instead.
bool Ingest::is_fragment(const Place& place) const {
  bool extends =
      !runs_.empty() && runs_.back().xorb == place.xorb && runs_.back().end == place.chunk;
  return !extends && runs_.size() > kFreeRuns && runs_.size() > tree_.count() / kRunChunks;
}

// Only some chunks are asked for in the database; the neighbours of a hit then come with it, and
// where they end the next xorb of the same old file may begin.
std::optional<Ingest::Place> Ingest::find(const Hash& chunk) {
  auto found = places_.find(chunk);
  bool ask = after_hit_ || xet::is_global_dedup_eligible(chunk);
  if (found == places_.end() && ask && find_stored(chunk)) found = places_.find(chunk);
  if (found == places_.end()) return std::nullopt;
  return found->second;
}

bool Ingest::find_stored(const Hash& chunk) {
  auto row = store_.database.read([&](Transaction& t) {
    return t.one(
        "SELECT x.hash, x.chunk_table, x.bytes FROM dedup_chunks d JOIN xorbs x ON x.hash = d.xorb "
        "WHERE d.chunk = ? LIMIT 1",
        to_bytes(chunk));
  });
  if (!row) return false;
  Hash xorb = to_hash(row->bytes(0));
  if (!store_.database.write([&](Transaction& t) { return store_.renew_xorb(t, xorb); }))
    return false;
  ChunkTable table(row->bytes(1), uint64_t(row->integer(2)));
  for (size_t i = 0; i < table.size(); ++i)
    remember(table.hash(i), {uint32_t(xorbs_.size()), uint32_t(i)});
  xorbs_.push_back(xorb);
  return places_.count(chunk) > 0;
}

void Ingest::remember(const Hash& chunk, Place place) {
  if (places_.size() >= kMaxPlaces) places_.clear();
  places_.try_emplace(chunk, place);
}

Ingest::Place Ingest::pack(std::string_view chunk, const Hash& hash) {
  if (packing_ && (table_.chunks.size() == xet::kMaxXorbChunks ||
                   table_.end + xet::kRecordHeader + chunk.size() > xet::kMaxXorb ||
                   table_.raw_size + chunk.size() > xet::kMaxXorb))
    close_xorb();
  if (!packing_) {
    writers_[writing_].begin(store_.blobs.stage(chunk.size()));
    packing_ = uint32_t(xorbs_.size());
    xorbs_.push_back({});
  }
  xet::Scheme scheme = xet::compress(chunk, packed_);
  if (packed_.size() > chunk.size() - chunk.size() / kLeastGain) scheme = xet::Scheme::none;
  std::string_view stored = scheme == xet::Scheme::none ? chunk : packed_;
  auto header = xet::record_header(stored.size(), scheme, chunk.size());
  writers_[writing_].write({header.data(), header.size()});
  writers_[writing_].write(stored);
  table_.chunks.push_back({.offset = table_.end,
                           .stored_size = uint32_t(stored.size()),
                           .size = uint32_t(chunk.size()),
                           .scheme = scheme,
                           .hash = hash});
  table_.end = table_.chunks.back().end();
  table_.raw_size += chunk.size();
  xorb_tree_.add(hash, chunk.size());
  Place place{*packing_, uint32_t(table_.chunks.size() - 1)};
  remember(hash, place);
  return place;
}

// The disk finishes one xorb while the next is packed.
void Ingest::close_xorb() {
  if (publishing_.valid()) publishing_.get();
  table_.hash = xorbs_[*packing_] = xorb_tree_.root();
  auto& made = made_.emplace_back(Made{std::exchange(table_, {}), ""});
  auto& writer = writers_[writing_];
  publishing_ = std::async(std::launch::async, [this, &made, &writer] { publish(made, writer); });
  writing_ = 1 - writing_;
  packing_.reset();
  xorb_tree_ = {};
}

void Ingest::publish(Made& made, LargeWriter& writer) {
  StagedBlob staged = writer.finish();
  Bytes hash = to_bytes(made.table.hash);
  bool known = store_.database.read([&](Transaction& t) {
    return t.one("SELECT 1 FROM xorbs WHERE hash = ?", hash).has_value();
  });
  known = known && store_.database.write(
                       [&](Transaction& t) { return store_.renew_xorb(t, made.table.hash); });
  if (!known) made.blob = blobs_.publish(std::move(staged), "xorbs/" + made.table.hash.hex());
}

void Ingest::add_to_run(const Place& place, const Hash& hash, size_t size) {
  if (runs_.empty() || runs_.back().xorb != place.xorb || runs_.back().end != place.chunk) {
    close_run();
    runs_.push_back({.xorb = place.xorb, .begin = place.chunk, .end = place.chunk});
  }
  ++runs_.back().end;
  runs_.back().size += uint32_t(size);
  run_hashes_.push_back(hash);
}

void Ingest::close_run() {
  if (!runs_.empty()) runs_.back().range_hash = xet::range_hash(run_hashes_);
  run_hashes_.clear();
}

ContentObject Ingest::commit(const Hash& sha256) {
  chunker_.finish(ends_);
  cut({});
  if (packing_) close_xorb();
  if (publishing_.valid()) publishing_.get();
  close_run();

  FileRow file{tree_.file_hash(), tree_.size(), sha256, {}};
  for (auto& run : runs_)
    file.terms.push_back({xorbs_[run.xorb], run.size, run.begin, run.end, run.range_hash});
  auto published = blobs_.keep();
  std::vector<std::string> unused;
  auto object = store_.database.write([&](Transaction& t) {
    unused.clear();
    // Somebody else may have stored the same file meanwhile, in other xorbs.
    bool known = t.one("SELECT 1 FROM files WHERE hash = ?", to_bytes(file.hash)).has_value() &&
                 !store_.is_damaged(t, file.hash);
    for (auto& made : made_)
      if (known ? !made.blob.empty()
                : !made.blob.empty() && !store_.add_xorb(t, repo_, made.table, made.blob))
        unused.push_back(made.blob);
    store_.add_file(t, file, first_chunk_);
    store_.grant_object(t, repo_, sha256);
    return store_.find_object(t, sha256);
  });
  for (auto& blob : unused) store_.blobs.remove(blob);
  return *object;
}

}  // namespace pretrained::server
