#pragma once
// Pictures, videos and sounds that people show in discussions. They belong to a user, whose quota
// they count against, and to no repository: a name cannot be guessed, and who has it may read. May
// be called from any thread.

#include <functional>
#include <optional>
#include <string>

#include "server/accounts/accounts.h"
#include "server/storage/blobs.h"

namespace pretrained::server {

struct Attachment {
  std::string name;  // "<32 digits>.png"
  int64_t user = 0;
  std::string blob;
  uint64_t size = 0;
  std::string content_type;
};

// What may be attached; nothing for another Content-Type.
struct AttachmentKind {
  std::string content_type, extension;
  uint64_t limit = 0;  // bytes
};
std::optional<AttachmentKind> attachment_kind(std::string_view content_type);

class Attachments {
 public:
  Attachments(Database& database, BlobStore& blobs) : database_(database), blobs_(blobs) {}

  // Durable when it returns. ArgumentError beyond the limit of its kind or where nothing came,
  // QuotaExceeded.
  Attachment store(const Account& user, const AttachmentKind& kind,
                   const std::function<size_t(char*, size_t)>& read);
  std::optional<Attachment> find(const std::string& name);
  void remove(const Attachment& attachment);
  // Removes what processes that died left behind. Returns the bytes freed.
  uint64_t sweep();

 private:
  Database& database_;
  BlobStore& blobs_;
};

}  // namespace pretrained::server
