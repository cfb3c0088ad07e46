#pragma once
// Writes blobs of many megabytes. Pieces of up to 4 MiB go to the disk while the next one is
// filled, and past the page cache where the file system can: copying into it costs more than
// hashing, and nobody reads what was just stored more often than the rest. Belongs to one thread.

#include <cstdlib>
#include <future>
#include <memory>
#include <optional>
#include <string_view>

#include "server/storage/blobs.h"

namespace pretrained::server {

class LargeWriter {
 public:
  LargeWriter();
  ~LargeWriter();
  LargeWriter(const LargeWriter&) = delete;

  void begin(StagedBlob blob);
  // Throws what writing an earlier piece threw: IoError, DiskFull.
  void write(std::string_view bytes);
  // All of it written, durable once it is published. The writer is ready for the next blob.
  StagedBlob finish();

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  using Piece = std::unique_ptr<char, Free>;
  void send();
  void wait();

  const size_t piece_size_;
  std::optional<StagedBlob> blob_;
  Piece filling_, sent_;
  size_t filled_ = 0;
  std::future<void> sending_;
};

}  // namespace pretrained::server
