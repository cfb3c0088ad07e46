#pragma once
// Files of one commit, into the shared cache (cache.h) or a folder of one's own.
//
// A revision is resolved to a commit once; every byte then comes from that commit. Each file's
// SHA-256 or git blob id is computed over the bytes that arrived and must be what the commit says
// before the file becomes visible. What a killed process had fetched is used by the next. Offline,
// or with the commit complete in the cache, no connection is made. Mirrors
// https://huggingface.co/docs/huggingface_hub/package_reference/file_download

#include <filesystem>
#include <string>
#include <vector>

#include "pretrained/hub/cache.h"
#include "pretrained/hub/client.h"
#include "pretrained/hub/transfer.h"

namespace pretrained::hub {

struct Download {
  std::string revision = "main";
  std::filesystem::path cache_dir;  // empty: HF_HUB_CACHE
  // Real files in this folder instead, with Python's .cache/huggingface bookkeeping beside them.
  std::filesystem::path local_dir;
  // Shell patterns ('*' crosses '/'), as fnmatch; empty: all. A pattern that ends with '/' means
  // all below.
  std::vector<std::string> allow_patterns, ignore_patterns;
  bool force_download = false;    // also what is there already
  bool local_files_only = false;  // no connection
  // FormatError, before a byte moves, where more is to be fetched. 0: any size.
  uint64_t max_file_size = 0, max_total_size = 0;
  // Large files out of Xet's store, packed: fewer bytes for more work, so faster where the line is
  // slower than about a gigabit. Files above 50 GB always come so. Never with HF_HUB_DISABLE_XET=1.
  bool xet = false;
  int max_workers = 8;
  OnTransfer on_transfer;
};

struct Snapshot {
  std::filesystem::path folder;  // snapshots/<commit>, or local_dir
  std::string commit;
  std::vector<std::string> files;  // that match, sorted
  uint64_t downloaded = 0;         // bytes over the wire
};

// The whole repository, or what the patterns leave of it. Offline: what the cache holds of that
// revision, OfflineError where it holds none.
PRETRAINED_API Snapshot snapshot_download(const HubClient& client, const Repo& repo,
                                          const Download& options = {});

// One file; its path in the cache or in local_dir. EntryNotFound names near matches.
PRETRAINED_API std::filesystem::path hf_hub_download(const HubClient& client, const Repo& repo,
                                                     const std::string& path,
                                                     const Download& options = {});

// fnmatch as Python's: '*', '?', '[a-z]'.
PRETRAINED_API bool matches_any(const std::string& path, const std::vector<std::string>& patterns);

}  // namespace pretrained::hub
