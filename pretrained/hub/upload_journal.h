#pragma once
// For this room only: which xorbs this machine has stored on a hub, and their chunks, so that a
// killed upload goes on where it was and the next version of a file sends only what changed:
//
//   $HF_HOME/pretrained/upload/<SHA-256 of endpoint and repository>/<xorb>.shard
//
// Each file is there whole or not; what was not touched for 30 days goes. It is a hint: the hub is
// asked for a xorb before it is referred to. Any number of processes.

#include <filesystem>
#include <string>
#include <vector>

#include "pretrained/hub/client.h"
#include "pretrained/xet/shard.h"

namespace pretrained::hub {

class UploadJournal {
 public:
  UploadJournal(const std::string& endpoint, const Repo& repo);
  std::vector<xet::ShardXorb> load() const;  // damaged files are removed
  // From any thread. A folder that cannot be written is no error: the upload goes on without.
  void add(const xet::ShardXorb& xorb) const;
  void remove(const xet::Hash& xorb) const;
  void touch(const xet::Hash& xorb) const;

 private:
  std::filesystem::path file(const xet::Hash& xorb) const;
  std::filesystem::path folder_;
};

}  // namespace pretrained::hub
