#pragma once
// A file while it comes, in any order and over several processes:
//
//   <base>.pretrained.part     its bytes, each at its place
//   <base>.pretrained.ranges   one line for each range that is done: "<begin> <end> <check>"
//
// The check is of etag, size and range: a line that was cut off or belongs to another file does not
// count. That the bytes are right is settled at the end, over all of them; the hash is computed
// while the rest is still on its way. The caller holds the lock that goes with the name. Any number
// of threads may write at once.

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/base/files.h"
#include "pretrained/hub/blob_hash.h"

namespace pretrained::hub {

struct Range {
  uint64_t begin = 0, end = 0;  // end is behind
  uint64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// What of a file of that name is done; nothing is opened for writing.
PRETRAINED_API uint64_t bytes_in_part(const std::filesystem::path& base, const std::string& etag,
                                      uint64_t size);
// What a killed process left, where the file came another way since; under its lock.
void discard_part(const std::filesystem::path& base);

class PRETRAINED_API PartFile {
 public:
  // Goes on with what is there.
  PartFile(std::filesystem::path base, std::string etag, uint64_t size);

  uint64_t size() const { return size_; }
  bool resumed() const { return resumed_; }  // holds bytes of an earlier process
  uint64_t done_bytes() const;
  // What is still to come, in pieces of at most `piece` bytes; an empty file has none.
  std::vector<Range> missing(uint64_t piece) const;

  void write(uint64_t offset, std::string_view bytes);
  void mark_done(Range range);
  // Brings the hash on as far as the bytes are there without a gap, unless another thread is at it.
  void hash_ahead();
  // With everything done: its hash, to be compared.
  std::string hash();
  // Then the name; a large file's bytes are on the disk before.
  void move_to(const std::filesystem::path& target);
  // Forgets everything that has come.
  void restart();
  void remove();  // no trace is left

 private:
  void hash_until(uint64_t end);
  std::filesystem::path part_, ranges_;
  std::string etag_;
  uint64_t size_;
  bool resumed_ = false, hashing_ = false;
  FileDescriptor file_, journal_;
  mutable std::mutex mutex_;
  std::map<uint64_t, uint64_t> done_;  // begin → end, apart from each other
  BlobHasher hasher_;
  uint64_t hashed_ = 0;
};

}  // namespace pretrained::hub
