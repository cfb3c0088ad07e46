#include "pretrained/hub/chunk_index.h"

namespace pretrained::hub {
namespace {

constexpr size_t kAnswers = 8;
constexpr uint64_t kWorthAsking = 1 << 20;  // smaller files are sent in the time of a question

}  // namespace

ChunkIndex::ChunkIndex(XetStore& store, const UploadJournal& journal)
    : store_(store), journal_(journal) {
  for (auto& xorb : journal.load()) {
    uint32_t index = open_xorb();
    xorbs_[index] = {xorb.hash, uint32_t(xorb.chunks.size()), Xorb::unasked};
    for (uint32_t i = 0; i < xorb.chunks.size(); ++i) add(xorb.chunks[i].hash, {index, i});
  }
}

uint32_t ChunkIndex::open_xorb() {
  xorbs_.emplace_back();
  return uint32_t(xorbs_.size() - 1);
}

void ChunkIndex::start_file(uint64_t size) { worth_asking_ = size >= kWorthAsking; }

std::optional<ChunkIndex::Place> ChunkIndex::find(const xet::Hash& chunk) {
  auto place = find_known(chunk);
  if (!place) place = find_answered(chunk);
  if (!place && (worth_asking_ || xet::is_global_dedup_eligible(chunk)) && ask(chunk))
    place = find_answered(chunk);
  // Behind the end of a known xorb another known one may begin.
  worth_asking_ = place && place->chunk + 1 == xorbs_[place->xorb].chunks;
  return place;
}

std::optional<ChunkIndex::Place> ChunkIndex::find_known(const xet::Hash& chunk) {
  auto found = known_.find(chunk);
  if (found == known_.end() || !is_usable(found->second.xorb)) return std::nullopt;
  return found->second;
}

bool ChunkIndex::is_usable(uint32_t index) {
  auto& xorb = xorbs_[index];
  if (xorb.state == Xorb::unasked) {
    xorb.state = store_.has_xorb(xorb.hash) ? Xorb::usable : Xorb::gone;
    if (xorb.state == Xorb::usable) journal_.touch(xorb.hash);
  }
  return xorb.state == Xorb::usable;
}

std::optional<ChunkIndex::Place> ChunkIndex::find_answered(const xet::Hash& chunk) {
  for (auto& answer : answers_) {
    auto found =
        answer.chunks.find(answer.key.is_zero() ? chunk : xet::keyed_hash(chunk, answer.key));
    if (found == answer.chunks.end()) continue;
    add(chunk, found->second);
    return found->second;
  }
  return std::nullopt;
}

bool ChunkIndex::ask(const xet::Hash& chunk) {
  auto shard = store_.find_chunk(chunk);
  if (!shard) return false;
  Answer answer;
  if (shard->footer) answer.key = shard->footer->key;
  for (auto& xorb : shard->xorbs) {
    uint32_t index = open_xorb();
    xorbs_[index] = {xorb.hash, uint32_t(xorb.chunks.size()), Xorb::usable};
    for (uint32_t i = 0; i < xorb.chunks.size(); ++i)
      answer.chunks.emplace(xorb.chunks[i].hash, Place{index, i});
  }
  answers_.push_front(std::move(answer));
  if (answers_.size() > kAnswers) answers_.pop_back();
  return true;
}

}  // namespace pretrained::hub
