#pragma once
// A hub without its API, in a temporary folder: for the tests of this room and of those above it.

#include "server/repos/repos.h"
#include "server/storage/testing.h"

namespace pretrained::server {

struct TemporaryHub {
  TemporaryFolder folder;
  Database database{folder / "hub.db"};
  BlobStore blobs{folder.path(), 0};
  Accounts accounts{database};
  GitStore git{database, blobs, folder / "cache"};
  ContentStore content{database, blobs};
  Repos repos{database, accounts, git, content};

  Caller caller(const std::string& name) {
    Caller c;
    c.user = accounts.create_user(name);
    return c;
  }
};

}  // namespace pretrained::server
