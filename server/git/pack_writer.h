#pragma once
// Writes a pack (version 2, no deltas) and its index (version 2) of objects, durably, into the
// blob store: https://git-scm.com/docs/gitformat-pack

#include <git2.h>

#include <string_view>
#include <vector>

#include "server/git/git_store.h"

namespace pretrained::server {

struct PackObject {
  git_oid oid;
  git_object_t type;
  std::string_view bytes;
  std::optional<FilePiece> piece = {};  // its bytes instead, read when they are written
  uint64_t size() const { return piece ? piece->size : bytes.size(); }
};

// `objects`: each id once. Fills checksum, blobs and sizes of the result.
GitStore::Stored write_pack(BlobStore& blobs, const std::vector<PackObject>& objects);

// Stores a pack that git made: `folder`/pack-<checksum>.pack and .idx.
GitStore::Stored store_pack(BlobStore& blobs, const std::filesystem::path& folder,
                            const std::string& checksum);

}  // namespace pretrained::server
