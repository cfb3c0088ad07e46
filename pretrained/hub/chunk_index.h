#pragma once
// For this room only: where the chunks of an upload lie already: in this session's xorbs, in those
// of the journal, and in answers of the hub. Belongs to one thread.

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "pretrained/hub/upload_journal.h"
#include "pretrained/hub/xet_store.h"

namespace pretrained::hub {

class ChunkIndex {
 public:
  struct Place {
    uint32_t xorb = 0, chunk = 0;  // xorb: for hash_of()
  };

  ChunkIndex(XetStore& store, const UploadJournal& journal);
  // The next file, whose first chunk is asked for where that is worth a question.
  void start_file(uint64_t size);
  // The next chunk of the file.
  std::optional<Place> find(const xet::Hash& chunk);

  // A xorb that is being filled; its hash comes later.
  uint32_t open_xorb();
  void add(const xet::Hash& chunk, Place place) { known_[chunk] = place; }
  void close_xorb(uint32_t xorb, const xet::Hash& hash) { xorbs_[xorb].hash = hash; }
  const xet::Hash& hash_of(uint32_t xorb) const { return xorbs_[xorb].hash; }

 private:
  struct Xorb {
    xet::Hash hash;
    uint32_t chunks = 0;
    enum { usable, unasked, gone } state = usable;
  };
  // Chunk hashes of an answer are under a key of its own.
  struct Answer {
    xet::Hash key;
    std::unordered_map<xet::Hash, Place> chunks;
  };

  std::optional<Place> find_known(const xet::Hash& chunk);
  std::optional<Place> find_answered(const xet::Hash& chunk);
  bool ask(const xet::Hash& chunk);
  bool is_usable(uint32_t xorb);

  XetStore& store_;
  const UploadJournal& journal_;
  std::vector<Xorb> xorbs_;
  std::unordered_map<xet::Hash, Place> known_;
  std::deque<Answer> answers_;  // the last few: files follow their xorbs
  bool worth_asking_ = false;   // for the next chunk
};

}  // namespace pretrained::hub
