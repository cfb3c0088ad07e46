#pragma once
// A file that arrives as bytes becomes chunks in xorbs: those that the store has are referred to,
// the others are packed into new xorbs on the way. Belongs to one thread at a time.

#include <array>
#include <deque>
#include <future>

#include "pretrained/xet/chunker.h"
#include "server/cas/published.h"
#include "server/cas/store.h"
#include "server/storage/large_writer.h"

namespace pretrained::server {

class Ingest {
 public:
  Ingest(Store& store, int64_t repo) : store_(store), repo_(repo), blobs_(store.blobs) {}
  ~Ingest();
  void feed(std::string_view bytes);
  // At the end of the file: rows for its xorbs, the file and the object, which the repository then
  // holds under lease. Without it nothing stays.
  ContentObject commit(const Hash& sha256);

 private:
  // A chunk of one of `xorbs_`.
  struct Place {
    uint32_t xorb = 0, chunk = 0;
  };
  struct Run {  // a term whose xorb may have no name yet
    uint32_t xorb = 0, begin = 0, end = 0, size = 0;
    Hash range_hash;
  };
  struct Made {
    xet::XorbTable table;
    std::string blob;  // empty where there was such a xorb already
  };

  void cut(std::string_view bytes);
  void add_chunk(std::string_view chunk);
  bool is_fragment(const Place& place) const;
  std::optional<Place> find(const Hash& chunk);
  bool find_stored(const Hash& chunk);
  void remember(const Hash& chunk, Place place);
  Place pack(std::string_view chunk, const Hash& hash);
  void close_xorb();
  void publish(Made& made, LargeWriter& writer);
  void add_to_run(const Place& place, const Hash& hash, size_t size);
  void close_run();

  Store& store_;
  int64_t repo_;
  PublishedBlobs blobs_;
  xet::Chunker chunker_;
  xet::Merkle tree_;  // of the file
  std::vector<uint64_t> ends_;
  uint64_t chunk_begin_ = 0;  // in the file, of the chunk that is open
  std::string held_;          // its bytes so far
  Hash first_chunk_;

  std::vector<Hash> xorbs_;  // by number; zeros while it is being packed
  std::unordered_map<Hash, Place> places_;
  bool after_hit_ = true;  // so that the first chunk is asked for

  // The xorb that is being packed.
  std::optional<uint32_t> packing_;  // its number
  xet::XorbTable table_;
  xet::Merkle xorb_tree_;
  std::string packed_;  // its last chunk
  std::deque<Made> made_;
  std::array<LargeWriter, 2> writers_;  // one fills a xorb, the other one finishes the last
  size_t writing_ = 0;
  std::future<void> publishing_;

  std::vector<Run> runs_;
  std::vector<Hash> run_hashes_;  // of the last run
};

}  // namespace pretrained::server
