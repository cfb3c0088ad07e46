#pragma once
// For this room only: large files through git-lfs's batch API, for hubs without Xet.
// https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md

#include <string>
#include <vector>

#include "pretrained/hub/commit.h"

namespace pretrained::hub {

// Stores those that the hub lacks and fills their `sha256`, where it is empty.
void lfs_upload(const HubClient& client, const Repo& repo, const std::string& revision,
                const std::vector<CommitFile*>& files, int workers, UploadProgress& progress);

}  // namespace pretrained::hub
