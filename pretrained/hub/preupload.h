#pragma once
// For this room only: how a hub wants each file.

#include <string>
#include <vector>

#include "pretrained/hub/client.h"
#include "pretrained/hub/local_files.h"
#include "pretrained/hub/upload_progress.h"

namespace pretrained::hub {

struct UploadMode {
  bool is_large = false;  // stored beside git, by its SHA-256
  bool ignored = false;   // a .gitignore says so
  std::string oid;        // of what is at the path now, as in blob_hash.h; or ""
};

// One for each of the files.
std::vector<UploadMode> preupload(const HubClient& client, const Repo& repo,
                                  const std::string& revision, bool create_pr,
                                  const std::vector<LocalFile>& files, UploadProgress& progress);

std::string base64(std::string_view bytes);

}  // namespace pretrained::hub
