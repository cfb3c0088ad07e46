#pragma once
// What a transfer tells while it runs.

#include <cstdint>
#include <functional>
#include <string>

namespace pretrained::hub {

struct TransferEvent {
  enum class Kind {
    planned,   // the totals are known
    progress,  // bytes of `file` came or went
    finished,  // `file` is done; `text`: "downloaded", "cached", "uploaded", "unchanged", …
    notice,    // one line in `text`
  } kind = Kind::progress;
  std::string file;                      // path in the repository
  uint64_t done = 0, total = 0;          // bytes of the file
  uint64_t all_done = 0, all_total = 0;  // bytes of the transfer; resumed and cached ones count
  uint64_t files_done = 0, files_total = 0;
  uint64_t wire_bytes = 0;  // bytes of bodies that really crossed the network so far
  std::string text;
};

// Called from the transfer's threads, one call at a time. What it throws stops the transfer (what
// was fetched is kept for a resume) and is thrown on: that is how to cancel.
using OnTransfer = std::function<void(const TransferEvent&)>;

}  // namespace pretrained::hub
