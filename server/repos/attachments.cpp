#include "server/repos/attachments.h"

#include <vector>

#include "server/repos/rows.h"

namespace pretrained::server {
namespace {

constexpr uint64_t kLimit = 10 << 20, kVideoLimit = 50 << 20;
constexpr size_t kBuffer = 256 << 10;

// Those of huggingface_hub's upload_attachment. Nothing that a browser would run.
const std::vector<AttachmentKind>& kinds() {
  static const std::vector<AttachmentKind> all = {
      {"image/png", ".png", kLimit},        {"image/jpeg", ".jpg", kLimit},
      {"image/gif", ".gif", kLimit},        {"image/webp", ".webp", kLimit},
      {"video/mp4", ".mp4", kVideoLimit},   {"video/quicktime", ".mov", kVideoLimit},
      {"video/webm", ".webm", kVideoLimit}, {"audio/mpeg", ".mp3", kLimit},
      {"audio/wav", ".wav", kLimit},
  };
  return all;
}

std::string content_type_of(const std::string& name) {
  for (const auto& kind : kinds())
    if (name.ends_with(kind.extension)) return kind.content_type;
  return "application/octet-stream";
}

}  // namespace

std::optional<AttachmentKind> attachment_kind(std::string_view content_type) {
  for (const auto& kind : kinds())
    if (kind.content_type == content_type) return kind;
  return std::nullopt;
}

Attachment Attachments::store(const Account& user, const AttachmentKind& kind,
                              const std::function<size_t(char*, size_t)>& read) {
  StagedBlob staged = blobs_.stage();
  std::string buffer(kBuffer, '\0');
  while (size_t got = read(buffer.data(), buffer.size())) {
    staged.write({buffer.data(), got});
    if (staged.size() > kind.limit)
      throw ArgumentError("an attachment of more than " + std::to_string(kind.limit) +
                          " bytes; that is the limit for " + kind.content_type);
  }
  if (staged.size() == 0) throw ArgumentError("an attachment of no bytes");
  std::string digits = random_hex(32);
  Attachment attachment{digits + kind.extension, user.id, "", staged.size(), kind.content_type};
  attachment.blob = blobs_.publish(std::move(staged), "attachments/" + digits);
  try {
    database_.write([&](Transaction& t) {
      t.run("INSERT INTO attachments (name, user, blob, bytes, created_at) VALUES (?, ?, ?, ?, ?)",
            attachment.name, user.id, attachment.blob, attachment.size, now_ms());
      check_quota(t, user.id);
    });
  } catch (const QuotaExceeded&) {
    blobs_.remove(attachment.blob);
    throw;
  }
  return attachment;
}

std::optional<Attachment> Attachments::find(const std::string& name) {
  return database_.read([&](Transaction& t) -> std::optional<Attachment> {
    auto row = t.one("SELECT user, blob, bytes FROM attachments WHERE name = ?", name);
    if (!row) return std::nullopt;
    return Attachment{name, row->integer(0), row->text(1), uint64_t(row->integer(2)),
                      content_type_of(name)};
  });
}

void Attachments::remove(const Attachment& attachment) {
  database_.write(
      [&](Transaction& t) { t.run("DELETE FROM attachments WHERE name = ?", attachment.name); });
}

uint64_t Attachments::sweep() {
  return blobs_.sweep("attachments", [&](const std::string& blob) {
    return database_.read([&](Transaction& t) {
      return t.one("SELECT 1 FROM attachments WHERE blob = ?", blob).has_value();
    });
  });
}

}  // namespace pretrained::server
