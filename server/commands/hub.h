#pragma once
// A data folder opened: every service of the hub, in the order in which they stand on each other.
//
//   hub.db            the database (SQLite; -wal and -shm beside it while in use)
//   blobs/            packs, xorbs and attachments, immutable
//   tmp/, leases/     what is being written, and by which process
//   cache/git/        bare repositories made of the above; may be deleted at any time
//   maintenance.lock  held by whoever removes blobs, and by backup
//   admin-token       the first administrator's token, 0600

#include <filesystem>
#include <string>

#include "server/api/app.h"

namespace pretrained::server {

struct HubOptions {
  std::filesystem::path data;
  uint64_t disk_reserve = uint64_t{1} << 30;
  bool migrate = true;
  PushLimits push;
  AppOptions app;
};

class Hub {
 public:
  // Creates the folder (0700) where there is none. IoError where it cannot be written.
  explicit Hub(const HubOptions& options);
  Services services();
  std::filesystem::path maintenance_lock() const { return data / "maintenance.lock"; }

  std::filesystem::path data;
  Database database;
  BlobStore blobs;
  Accounts accounts;
  GitStore git;
  ContentStore content;
  Repos repos;

 private:
  AppOptions app_;
  std::string signing_key_;
};

// Where nobody may administer the hub yet: the user "admin" and a token for it, written to
// <data>/admin-token (0600). Returns that path, or "" where there was an administrator.
std::filesystem::path ensure_admin(Hub& hub);

}  // namespace pretrained::server
