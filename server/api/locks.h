#pragma once
// LFS file locks (git lfs lock): notes of who works on what, which git-lfs obeys before it pushes.
// The hub itself refuses no push for them. A lock is its user's; who may write may break it
// (force).

#include "server/api/app.h"

namespace pretrained::server {

// Below `lfs`, the path of a repository's LFS door.
std::vector<Route<ApiHandler>> lock_routes(const std::string& lfs);

}  // namespace pretrained::server
